"""Variables of the programs."""

from pathlib import Path

import pytest

from cilia.contracts.ids import NodeName
from cilia.datapath.clock import TICKS_PER_SECOND
from cilia.datapath.features import reads_kernel_context
from services.agent.config import Config, RoutingMode
from services.agent.loader.datapath import BPF_F_IPV6, defences_off, variables
from services.agent.loader.devices import NodeDevices

OVERLAY = NodeDevices(host=2, net=3, vxlan=4, uplinks=(5,), mtu_bytes=1450)
NATIVE = NodeDevices(host=2, net=3, vxlan=0, uplinks=(5,), mtu_bytes=1500)


def given_by(
    devices: NodeDevices = OVERLAY, kernel: tuple[int, int] = (6, 12), **settings: object
) -> dict[str, object]:
    config = Config(**{"node": NodeName("node1"), "ipv4": "192.0.2.1", **settings})  # type: ignore[arg-type]
    return dict(variables(config, devices, kernel=kernel, nat_entries=131072, reads_offload=kernel >= (6, 2)))


def test_an_overlay_has_its_device_and_what_fits_into_it() -> None:
    found = given_by(OVERLAY)
    assert (found["overlay_ifindex"], found["overlay_mtu"], found["tunnel_port"]) == (4, 1450, 8472)
    assert found["is_native"] is False


def test_native_routing_has_no_overlay() -> None:
    found = given_by(NATIVE, routing=RoutingMode.NATIVE)
    assert (found["overlay_ifindex"], found["overlay_mtu"], found["is_native"]) == (0, 0, True)


def test_the_nodes_addresses_are_given_as_the_programs_have_them() -> None:
    found = given_by(ipv6="2001:db8::1")
    assert found["node_ipv4"] == 0xC0000201
    assert found["node_ipv6"] == bytes.fromhex("20010db8000000000000000000000001")
    assert given_by()["node_ipv6"] == bytes(16)


@pytest.mark.parametrize(("kernel", "flag"), [((6, 1), 0), ((6, 15), 0), ((6, 16), BPF_F_IPV6), ((7, 0), BPF_F_IPV6)])
def test_a_kernel_gets_a_flag_only_if_it_knows_it(kernel: tuple[int, int], flag: int) -> None:
    assert given_by(kernel=kernel)["ipv6_checksum_flag"] == flag


@pytest.mark.parametrize("reads", [False, True])
def test_offloads_are_compared_where_the_kernel_lets_programs_read_them_and_else_said_to_be_off(reads: bool) -> None:
    assert given_by(kernel=(6, 2) if reads else (6, 1))["reads_offload"] is reads
    assert [words.split()[0] for words in defences_off(reads_offload=reads)] == ([] if reads else ["offloads"])


def test_the_kernels_own_buffer_is_read_from_6_2_on_and_with_its_types(tmp_path: Path) -> None:
    types = tmp_path / "vmlinux"
    assert not reads_kernel_context((6, 12), types)
    types.touch()
    assert [reads_kernel_context(kernel, types) for kernel in ((6, 1), (6, 2), (7, 0))] == [False, True, True]


def test_reports_are_limited_by_default_and_four_seconds_of_them_may_come_at_once() -> None:
    given = given_by(node_event_limit=900)
    assert (given["event_rate"], given["event_burst"]) == (500, 2000)
    assert (given["node_event_rate"], given["node_event_burst"]) == (900, 3600)


@pytest.mark.parametrize(("seconds", "ticks"), [(0.0, 0), (1.0, TICKS_PER_SECOND), (5.0, 5 * TICKS_PER_SECOND)])
def test_seconds_between_reports_are_counted_in_ticks(seconds: float, ticks: int) -> None:
    given = given_by(trace_seconds=seconds)
    assert (given["ticks_per_second"], given["trace_ticks"]) == (TICKS_PER_SECOND, ticks)


@pytest.mark.parametrize(("wanted", "quota"), [(8192, 8192), (100, 100), (20_000, 8192), (0, 8192)])
def test_a_pod_gets_at_most_an_eighth_of_the_mappings(wanted: int, quota: int) -> None:
    assert given_by(nat_quota=wanted)["nat_quota"] == quota


def test_masquerading_may_be_off() -> None:
    assert given_by()["masquerades"] is True
    assert given_by(masquerade=False)["masquerades"] is False
