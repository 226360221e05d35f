"""Programs into the kernel and into their places, without a packet that meets none.

Maps are pinned and found again; programs are loaded anew at each start and replace those of a
former agent in one step per place: the two tc blocks that all pods share, and a pinned TCX link at
the overlay's device, if there is one (a clsact filter where the kernel has no TCX). Blocks on RTNL,
and on RCU when a link is new: for the worker thread.
"""

from pathlib import Path
from typing import Final

from cilia.datapath.features import ensure_bpffs, kernel_version
from cilia.datapath.migration import Migration, settle
from cilia.datapath.objects import OBJECTS, LoadedObject, Loading, load
from services.agent.address import ipv4_number, number, packed
from services.agent.config import Config, RoutingMode
from services.agent.conntrack.gc import TICKS_PER_SECOND
from services.agent.endpoint.veth import TcBlocks
from services.agent.loader.attachments import Place, attach_all
from services.agent.loader.sizes import max_entries, memory_bytes
from services.agent.netlink.tc import Side, TrafficControl
from services.agent.node.devices import NodeDevices

BPF_F_IPV6: Final = 1 << 7
IPV6_CHECKSUM_KERNEL: Final = (6, 16)
"""The first kernel that knows this flag of bpf_l4_csum_replace."""
OBJECT: Final = OBJECTS / "cilia.o"
FROM_POD, TO_POD = "from_pod", "to_pod"
FROM_OVERLAY, TO_OVERLAY = "from_overlay", "to_overlay"
FROM_UPLINK, TO_UPLINK = "from_uplink", "to_uplink"

FIRST_NAT_PORT, LAST_NAT_PORT, LAST_PORT = 1024, 29_999, 65_535
NS_PER_SECOND: Final = 1_000_000_000
EVENT_BURST_NS: Final = NS_PER_SECOND // 10
"""A CPU may send its reports of so long a time at once."""


def install(config: Config, devices: NodeDevices, blocks: TcBlocks) -> LoadedObject:
    """Load the programs over the pinned maps and put them in their places.

    A map that is pinned with another layout or size than is wanted now is made anew and gets the
    entries of the pinned one, flows included, while traffic goes on. Until the new programs are in
    place, nothing is changed.

    Raises:
        CannotMigrate, MapFull: Entries have no place in a map as it is wanted.
        LoadFailed: The kernel refused a program.
    """
    ensure_bpffs()
    pins = Path(config.pin_directory)
    settle(pins)
    objects = load_datapath(config, devices)
    migration = Migration(objects, pins)
    try:
        migration.copy()
        migration.commit()
        attach(objects, config, devices, blocks)
        migration.finish()
    except BaseException:
        objects.close()
        raise
    finally:
        migration.close()
    return objects


def local_ports() -> tuple[int, int]:
    """Return the first and last port that the node's own connections take."""
    first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(first), int(last)


def masquerade_ports(first_local: int, last_local: int) -> tuple[int, int]:
    """Return the first and last port for masqueraded flows: the greater part of what the node
    itself leaves over.

    Privileged ports, and those above 30,000 where services get theirs (NodePort), are left out
    below the node's.
    """
    below = FIRST_NAT_PORT, min(first_local - 1, LAST_NAT_PORT)
    above = last_local + 1, LAST_PORT
    return max(below, above, key=lambda ports: ports[1] - ports[0])


def load_datapath(config: Config, devices: NodeDevices) -> LoadedObject:
    """Load the programs over the pinned maps.

    Raises:
        LoadFailed: The kernel refused a program.
    """
    pins = Path(config.pin_directory)
    pins.mkdir(parents=True, exist_ok=True)
    loading = Loading(
        variables={
            "node_ipv4": ipv4_number(config.ipv4),
            "node_ipv6": packed(number(config.ipv6) if config.ipv6 else 0),
            "overlay_ifindex": devices.vxlan,
            "overlay_mtu": devices.mtu_bytes if devices.vxlan else 0,
            "tunnel_port": config.vxlan_port,
            "is_native": config.routing is RoutingMode.NATIVE,
            "masquerades": config.masquerade,
            "nat_ports": b"".join(port.to_bytes(2, "little") for port in masquerade_ports(*local_ports())),
            "ipv6_checksum_flag": BPF_F_IPV6 if kernel_version() >= IPV6_CHECKSUM_KERNEL else 0,
            "trace_ticks": int(config.trace_seconds * TICKS_PER_SECOND),
            "event_cost_ns": NS_PER_SECOND // config.event_limit if config.event_limit else 0,
            "event_burst_ns": EVENT_BURST_NS,
        },
        max_entries=max_entries(config.maps, memory_bytes()),
        pin_directory=pins,
        migrate=True,
    )
    return load(Path(config.object_file) if config.object_file else OBJECT, loading)


def attach(objects: LoadedObject, config: Config, devices: NodeDevices, blocks: TcBlocks) -> None:
    """Put the programs in their places, in place of former ones; they stay there without us."""
    with TrafficControl() as control:
        control.replace_block_filter(blocks.ingress, objects.program(FROM_POD).fileno(), FROM_POD)
        control.replace_block_filter(blocks.egress, objects.program(TO_POD).fileno(), TO_POD)
        attach_all(objects, Path(config.pin_directory), places(devices), control)


def places(devices: NodeDevices) -> list[Place]:
    """Return which programs the node's own devices get."""
    found = [
        Place(program, side, uplink)
        for uplink in devices.uplinks
        for program, side in ((FROM_UPLINK, Side.INGRESS), (TO_UPLINK, Side.EGRESS))
    ]
    if devices.vxlan:
        found += [Place(FROM_OVERLAY, Side.INGRESS, devices.vxlan), Place(TO_OVERLAY, Side.EGRESS, devices.vxlan)]
    return found
