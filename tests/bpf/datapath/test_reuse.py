"""An entry that becomes another flow's while a program still reads it leads no packet astray."""

from pathlib import Path

from cilia.abi.enums import DropReason, Hook
from cilia.abi.structs import Ct4Key
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, INGRESS, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, node, populate
from tools.build import ROOT, compile_bpf

KEY = Ct4Key((0x0A01000A, 0x0A01000B), (40000, 80), 6)


def deliver(here: Node) -> int:
    return here.run("from_pod", tcp(A, B, flags="PA"), "lxc1").retval


def test_a_packet_is_dropped_if_its_entry_was_reused_while_it_was_read(tmp_path: Path) -> None:
    target = tmp_path / "reused.o"
    compile_bpf(ROOT / "bpf/tests/reused.c", target)
    with node(target, variables={"reused": KEY.pack(), "has_front_path": 0}) as here:
        populate(here)
        here.allow(A, EGRESS)
        here.allow(B, INGRESS)
        assert here.run("from_pod", tcp(A, B), "lxc1").retval == TC_ACT_REDIRECT
        assert deliver(here) == TC_ACT_REDIRECT
        here.events()
        assert deliver(here) == TC_ACT_SHOT
        (event,) = here.events()
        assert event.reason == DropReason.CT_REUSED
        assert here.counted(DropReason.CT_REUSED, Hook.FROM_POD) == 1
        assert deliver(here) == TC_ACT_REDIRECT  # decided anew


def test_an_entry_of_another_flow_is_not_taken_for_its_own() -> None:
    with node() as here:
        populate(here)
        here.allow(A, EGRESS)
        here.allow(B, INGRESS)
        here.run("from_pod", tcp(A, B), "lxc1")
        here.run("from_pod", tcp(A, B, 40001), "lxc1")
        entries = dict(here.flows.items())
        one, other = entries.values()
        assert one.generation != other.generation
        first, second = entries
        here.flows.update(first, other)
        here.events()
        assert here.run("from_pod", tcp(A, B, first.port[0], flags="PA"), "lxc1").retval == TC_ACT_REDIRECT
        assert len(here.events()) == 1  # decided anew
        assert here.run("from_pod", tcp(A, B, second.port[0], flags="PA"), "lxc1").retval == TC_ACT_REDIRECT
        assert here.events() == []
