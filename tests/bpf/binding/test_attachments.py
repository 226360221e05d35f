"""The agent's programs on devices that others use too: in front of theirs, replaced in place, and
the only thing to go.
"""

import ctypes
import errno
import json
import os
import secrets
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilia.datapath.errors import KernelError
from cilia.datapath.features import has_tcx
from cilia.datapath.links import AttachType, Link
from cilia.datapath.objects import LoadedObject
from cilia.netns import inside
from laboratory.namespaces import create_namespace, delete_namespace
from services.agent.loader import attachments
from services.agent.loader.attachments import AttachPoint, attach_all, drop_filters, drop_links
from services.agent.netlink.tc import Side, TcBlocks, TrafficControl

SYS_BPF = 321 if os.uname().machine == "x86_64" else 280
BPF_PROG_QUERY = 16
OURS, LEAVING = "pass_old", "pass_new"
THEIRS = "give_answer"

needs_tcx = pytest.mark.skipif(not has_tcx(), reason="TCX came with Linux 6.6")


@pytest.fixture
def device() -> Iterator[int]:
    """The index of a device, in whose namespace the test runs."""
    namespace = f"cilia-attach-{os.getpid()}-{secrets.token_hex(2)}"
    create_namespace(namespace)
    try:
        with inside(f"/run/netns/{namespace}"):
            run("ip link add one type veth peer name two")
            yield index_of("one")
    finally:
        delete_namespace(namespace)


def run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def filters() -> list[tuple[str, str]]:
    """Return side and program of the clsact filters of the device."""
    (shown,) = json.loads(run("bpftool -j net show dev one"))
    names = [(each["kind"].removeprefix("clsact/"), each["name"].partition(":")[0]) for each in shown["tc"]]
    return sorted(names)


def chain(device: int, hook: AttachType) -> list[int]:
    """Return the ids of the programs at a TCX hook, in running order (BPF_PROG_QUERY, which bpftool
    7.1 can't).
    """
    ids = (ctypes.c_uint32 * 8)()
    query = bytearray(struct.pack("=4IQI36x", device, hook, 0, 0, ctypes.addressof(ids), len(ids)))
    libc = ctypes.CDLL(None, use_errno=True)
    held = (ctypes.c_char * len(query)).from_buffer(query)
    assert libc.syscall(SYS_BPF, BPF_PROG_QUERY, held, len(query)) == 0, os.strerror(ctypes.get_errno())
    (count,) = struct.unpack_from("=I", query, 24)
    return list(ids[:count])


def chains(device: int, loaded: LoadedObject) -> tuple[list[str], list[str]]:
    """Return the programs at ingress and egress by name."""
    names = {loaded.program(name).id: name for name in (OURS, LEAVING, THEIRS)}
    ingress, egress = (chain(device, hook) for hook in (AttachType.TCX_INGRESS, AttachType.TCX_EGRESS))
    return [names[each] for each in ingress], [names[each] for each in egress]


def index_of(name: str) -> int:
    return int(run(f"ip -o link show {name}").split(":")[0])


def both(device: int) -> list[AttachPoint]:
    return [AttachPoint(OURS, Side.INGRESS, device), AttachPoint(LEAVING, Side.EGRESS, device)]


def attach(loaded: LoadedObject, pins: Path, points: list[AttachPoint]) -> None:
    with TrafficControl() as control:
        attach_all(loaded, pins, points, control)


@needs_tcx
def test_ours_run_before_what_others_attached_and_are_attached_once(
    device: int, loaded: LoadedObject, pins: Path
) -> None:
    with Link.attach(loaded.program(THEIRS), AttachType.TCX_INGRESS, device):
        for _ in range(2):
            attach(loaded, pins, both(device))
        assert chains(device, loaded) == ([OURS, THEIRS], [LEAVING])


@needs_tcx
def test_a_place_wanted_no_more_is_left_and_others_programs_stay(device: int, loaded: LoadedObject, pins: Path) -> None:
    with Link.attach(loaded.program(THEIRS), AttachType.TCX_EGRESS, device):
        attach(loaded, pins, both(device))
        attach(loaded, pins, [AttachPoint(OURS, Side.INGRESS, device)])
        assert chains(device, loaded) == ([OURS], [THEIRS])
        drop_links(pins)
        assert chains(device, loaded) == ([], [THEIRS])


@pytest.fixture
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 6.6."""

    def refuse(*_: object, **__: object) -> None:
        raise KernelError("attach", errno.EINVAL)

    monkeypatch.setattr(attachments, "ensure_attached", refuse)


@pytest.mark.usefixtures("without_tcx")
def test_without_tcx_a_filter_of_our_own_stands_beside_others(device: int, loaded: LoadedObject, pins: Path) -> None:
    theirs = pins / THEIRS
    loaded.program(THEIRS).pin(theirs)
    run("tc qdisc add dev one clsact")
    run(f"tc filter add dev one ingress prio 1 handle 1 bpf da object-pinned {theirs}")
    attach(loaded, pins, both(device))
    attach(loaded, pins, both(device))
    assert filters() == [("egress", LEAVING), ("ingress", THEIRS), ("ingress", OURS)]
    attach(loaded, pins, [AttachPoint(OURS, Side.INGRESS, device)])
    assert filters() == [("ingress", THEIRS), ("ingress", OURS)]
    with TrafficControl() as control:
        drop_filters(control)
    assert filters() == [("ingress", THEIRS)]


@pytest.mark.usefixtures("without_tcx")
def test_the_filters_of_pods_and_devices_without_any_are_not_touched(device: int, loaded: LoadedObject) -> None:
    assert device
    run("ip link set two name lxc1")
    with TrafficControl() as control:
        control.bind_to_blocks(index_of("lxc1"), TcBlocks(5, 6))
        control.replace_block_filter(5, loaded.program(OURS).fileno(), OURS)
        drop_filters(control)
    assert OURS in run("tc filter show block 5")
