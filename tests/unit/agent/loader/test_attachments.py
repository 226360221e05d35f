"""Attach points of the node's devices, and what is detached."""

from pathlib import Path

import pytest

from services.agent.loader import attachments as module
from services.agent.loader.attachments import (
    AttachPoint,
    attach_points,
    drop_links,
    sides_without_filter,
    unwanted_pins,
)
from services.agent.loader.devices import NodeDevices
from services.agent.netlink.tc import Side


def devices(*uplinks: int, vxlan: int = 0) -> NodeDevices:
    return NodeDevices(host=2, net=3, vxlan=vxlan, uplinks=uplinks, mtu_bytes=1450)


def test_every_uplink_and_the_overlay_get_a_program_on_each_side() -> None:
    assert attach_points(devices(5, 6, vxlan=4)) == [
        AttachPoint("from_uplink", Side.INGRESS, 5),
        AttachPoint("to_uplink", Side.EGRESS, 5),
        AttachPoint("from_uplink", Side.INGRESS, 6),
        AttachPoint("to_uplink", Side.EGRESS, 6),
        AttachPoint("from_overlay", Side.INGRESS, 4),
        AttachPoint("to_overlay", Side.EGRESS, 4),
    ]


def test_without_an_overlay_there_is_nothing_to_attach_to() -> None:
    assert {point.program for point in attach_points(devices(5))} == {"from_uplink", "to_uplink"}


def test_pins_are_told_apart_by_program_and_device() -> None:
    points = attach_points(devices(5, 6, vxlan=4))
    assert len({point.pin for point in points}) == len(points)
    assert points[0].pin == "link_from_uplink_5"


def test_links_that_nothing_wants_are_detached_and_maps_are_left() -> None:
    present = ["link_to_uplink_5", "link_from_uplink_9", "link_from_overlay_4", "cilia_ct4"]
    assert unwanted_pins(present, ["link_to_uplink_5"]) == ["link_from_overlay_4", "link_from_uplink_9"]
    assert unwanted_pins(present, present) == []
    assert unwanted_pins([], ["link_to_uplink_5"]) == []


def test_a_detached_link_loses_its_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detached: list[str] = []

    class FakeLink:
        def __init__(self, pin: Path) -> None:
            self._pin = pin

        @classmethod
        def open_pinned(cls, pin: Path) -> "FakeLink":
            return cls(pin)

        def __enter__(self) -> "FakeLink":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def detach(self) -> None:
            detached.append(self._pin.name)

    monkeypatch.setattr(module, "Link", FakeLink)
    for name in ("link_to_uplink_5", "link_to_uplink_6", "cilia_ct4"):
        (tmp_path / name).touch()
    drop_links(tmp_path, {"link_to_uplink_5"})
    assert detached == ["link_to_uplink_6"]
    assert {pin.name for pin in tmp_path.iterdir()} == {"link_to_uplink_5", "cilia_ct4"}


def test_filters_go_from_all_own_devices_but_the_wanted_sides_and_never_from_pods() -> None:
    named = {1: "lo", 3: "cilia_net", 5: "eth0", 7: "lxc1"}
    assert sides_without_filter(named, [(5, Side.INGRESS)]) == [(1, Side.INGRESS), (1, Side.EGRESS), (5, Side.EGRESS)]
    assert sides_without_filter({7: "lxc1"}, ()) == []


def test_wanted_sides_may_come_from_an_iterator() -> None:
    assert sides_without_filter({5: "eth0", 6: "eth1"}, iter([(5, Side.INGRESS), (6, Side.EGRESS)])) == [
        (5, Side.EGRESS),
        (6, Side.INGRESS),
    ]
