"""Repair of the programs: what was changed is described and put right, nothing else is touched."""

import errno
from pathlib import Path
from typing import Any, cast

import pytest

from cilia.contracts.ids import NodeName
from cilia.datapath.objects import LoadedObject
from services.agent.config import Config
from services.agent.loader import programs as module
from services.agent.loader.attachments import AttachPoint, attach_points
from services.agent.loader.devices import NodeDevices
from services.agent.loader.programs import Programs, foreign_filters, missing_links, unbound_devices
from services.agent.netlink.tc import HANDLE, INFO, Filter, Side, TcBlocks

BLOCKS = TcBlocks(0xC111A, 0xC111B)
BOUND = (0xC111A, 0xC111B)
DEVICES = NodeDevices(host=2, net=3, vxlan=4, uplinks=(5,), mtu_bytes=1450)
POINTS = attach_points(DEVICES)
IDS = {name: 100 + number for number, name in enumerate(["from_pod", "to_pod", *(each.program for each in POINTS)])}


def ours(program: int) -> Filter:
    return Filter("bpf", INFO, HANDLE, program)


class FakeProgram:
    def __init__(self, number: int) -> None:
        self.id = number

    def fileno(self) -> int:
        return self.id


class FakeObjects:
    """A loaded data plane; each one has ids of its own."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.closed = False

    def program(self, name: str) -> FakeProgram:
        return FakeProgram(self._first + list(IDS).index(name))

    def __enter__(self) -> "FakeObjects":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class FakeControl:
    """Traffic control in memory."""

    def __init__(self) -> None:
        self.bound: dict[int, tuple[int, int]] = {}
        self.filters: dict[int, list[Filter]] = {BLOCKS.ingress: [], BLOCKS.egress: []}
        self.gone: set[int] = set()
        self.error = errno.ENODEV
        self.unbound: list[int] = []

    def __enter__(self) -> "FakeControl":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bound_blocks(self) -> dict[int, tuple[int, int]]:
        return dict(self.bound)

    def delete_clsact(self, ifindex: int) -> None:
        self.unbound.append(ifindex)
        del self.bound[ifindex]

    def bind_to_blocks(self, ifindex: int, blocks: TcBlocks) -> None:
        if ifindex in self.gone:
            raise OSError(self.error, "no")
        self.bound[ifindex] = (blocks.ingress, blocks.egress)

    def block_filters(self, block: int) -> list[Filter]:
        return list(self.filters[block])

    def delete_block_filter(self, block: int, found: Filter) -> None:
        self.filters[block].remove(found)

    def replace_block_filter(self, block: int, program: int, _name: str) -> None:
        others = [each for each in self.filters[block] if not each.is_ours]
        self.filters[block] = [*others, ours(program)]


class Setting:
    """Programs over fakes; ``links`` are the programs of pinned links by their pins."""

    def __init__(self, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.control = FakeControl()
        self.pins = pins
        self.links: dict[str, int] = {}
        self.loads = 0
        monkeypatch.setattr(module, "TrafficControl", lambda: self.control)
        monkeypatch.setattr(module, "attach_all", self._attach_all)
        monkeypatch.setattr(module, "attached_program", lambda _, point: self.links.get(point.pin, 0))
        monkeypatch.setattr(module, "load_datapath", self._load)
        monkeypatch.setattr(module, "install_datapath", self._install)
        config = Config(node=NodeName("node1"), ipv4="192.0.2.1", pin_directory=str(pins))
        self.programs = Programs(config, DEVICES, BLOCKS)
        self.programs.install()

    def _attach_all(self, objects: FakeObjects, pins: Path, points: list[AttachPoint], _control: object) -> None:
        for point in points:
            (pins / point.pin).touch()
            self.links[point.pin] = objects.program(point.program).id

    def _load(self, *_: object) -> FakeObjects:
        self.loads += 1
        return FakeObjects(100 * self.loads)

    def _install(self, config: object, devices: object, attach: Any) -> LoadedObject:
        objects = self._load()
        attach(objects)
        return cast(LoadedObject, objects)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(tmp_path, monkeypatch)


def test_what_is_as_it_ought_to_be_is_left_alone(setting: Setting) -> None:
    setting.control.bound = {7: BOUND}
    assert setting.programs.repair({7: "lxc1"}) == []
    assert (setting.loads, setting.control.unbound) == (1, [])


@pytest.mark.parametrize("bound", [(0, 0), (0xC111A, 0), (1, 2)])
def test_a_pods_device_on_other_blocks_is_bound_again(setting: Setting, bound: tuple[int, int]) -> None:
    setting.control.bound = {7: bound, 8: BOUND}
    (fault,) = setting.programs.repair({7: "lxc1", 8: "lxc2"})
    assert fault == f"lxc1 was bound to the tc blocks {bound}, not {BOUND}"
    assert setting.control.bound == {7: BOUND, 8: BOUND}
    assert setting.control.unbound == [7]


def test_a_pods_device_without_a_qdisc_gets_one(setting: Setting) -> None:
    (fault,) = setting.programs.repair({7: "lxc1"})
    assert fault == f"lxc1 was bound to the tc blocks none, not {BOUND}"
    assert setting.control.unbound == []


def test_a_device_that_is_gone_is_no_fault_and_another_error_is(setting: Setting) -> None:
    setting.control.gone = {7}
    assert setting.programs.repair({7: "lxc1"}) == []
    setting.control.error = errno.EPERM
    with pytest.raises(PermissionError):
        setting.programs.repair({7: "lxc1"})


def test_a_foreign_filter_in_our_block_is_removed_and_named(setting: Setting) -> None:
    foreign = Filter("matchall", 5 << 16, 1, 0)
    setting.control.filters[BLOCKS.egress].insert(0, foreign)
    (fault,) = setting.programs.repair({})
    assert fault == f"tc block {BLOCKS.egress} had {foreign}, which is not ours"
    assert foreign not in setting.control.filters[BLOCKS.egress]
    assert setting.loads == 1


def test_a_block_without_our_program_gets_all_programs_anew(setting: Setting) -> None:
    setting.control.filters[BLOCKS.ingress].clear()
    (fault,) = setting.programs.repair({})
    assert fault == f"tc block {BLOCKS.ingress} had the programs [], not [100] (from_pod)"
    assert setting.control.filters[BLOCKS.ingress] == [ours(200)]
    assert setting.programs.repair({}) == []


def test_another_program_under_our_handle_is_replaced(setting: Setting) -> None:
    setting.control.filters[BLOCKS.ingress] = [ours(7)]
    (fault,) = setting.programs.repair({})
    assert "had the programs [7], not [100]" in fault


def test_a_link_that_is_gone_is_attached_again(setting: Setting) -> None:
    point = POINTS[0]
    del setting.links[point.pin]
    (fault,) = setting.programs.repair({})
    assert fault == f"from_uplink at device 5 was program 0, not {IDS['from_uplink']}"
    assert setting.programs.repair({}) == []


def test_where_the_kernel_knows_no_tcx_nothing_is_said_of_links(setting: Setting) -> None:
    for pin in setting.pins.glob("link_*"):
        pin.unlink()
    setting.links.clear()
    assert setting.programs.repair({}) == []


def test_devices_are_unbound_unless_both_sides_are_on_the_blocks() -> None:
    bound = {1: BOUND, 2: (0, 0xC111B), 3: BOUND[::-1]}
    assert unbound_devices([1, 2, 3, 4], bound, BLOCKS) == [2, 3, 4]


def test_filters_are_foreign_by_handle_kind_or_priority() -> None:
    others = [Filter("bpf", INFO, 1, 7), Filter("flower", INFO, HANDLE, 0), Filter("bpf", INFO + (1 << 16), HANDLE, 7)]
    assert foreign_filters([ours(7), *others]) == others


def test_a_missing_link_is_named_by_its_program_and_device() -> None:
    point = AttachPoint("to_uplink", Side.EGRESS, 5)
    assert list(missing_links({point: 7}, {"to_uplink": 7})) == []
    assert list(missing_links({point: 0}, {"to_uplink": 7})) == ["to_uplink at device 5 was program 0, not 7"]
