"""New flows that find no room."""

from pathlib import Path

import pytest

from cilia.abi.enums import DropReason, EventKind, Hook
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, INGRESS, SIZES, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, node, populate
from tools.build import ROOT, compile_bpf


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Compile bpf/tests/full.c."""
    target = tmp_path / "full.o"
    compile_bpf(ROOT / "bpf/tests/full.c", target)
    return target


def test_a_new_flow_that_finds_no_room_is_dropped_and_known_ones_pass(full: Path) -> None:
    with node(full, max_entries=SIZES | {"cilia_ct4": 1}) as here:
        populate(here)
        here.allow(A, EGRESS)
        here.allow(B, INGRESS)
        known, fresh = tcp(A, B, 40000), tcp(A, B, 40001)
        assert here.run("from_pod", known, "lxc1").retval == TC_ACT_REDIRECT
        here.events()
        ran = here.run("from_pod", fresh, "lxc1")
        (event,) = here.events()
        assert (ran.retval, ran.packet) == (TC_ACT_SHOT, fresh)
        assert (event.kind, event.reason, event.port) == (EventKind.DROP, DropReason.CT_CREATE, (40001, 80))
        assert here.counted(DropReason.CT_CREATE, Hook.FROM_POD) == 1
        assert here.run("from_pod", known, "lxc1").retval == TC_ACT_REDIRECT
