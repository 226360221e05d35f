"""Loading of the data plane: its variables, the sizes of its maps, and the way from a former one.

Maps are pinned and found again; programs are loaded anew at each start and replace those of a
former agent in one step per attach point, without a packet that meets none. Blocks on RTNL, and on
RCU when a link is new: for the worker thread.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from cilia.abi import maps
from cilia.datapath.clock import TICKS_PER_SECOND
from cilia.datapath.features import ensure_bpffs, kernel_version, reads_kernel_context
from cilia.datapath.migration import Migration, recover
from cilia.datapath.objects import OBJECTS, LoadedObject, LoadOptions, load
from services.agent.address import ipv4_number, number, packed
from services.agent.config import Config, RoutingMode
from services.agent.loader.devices import NodeDevices
from services.agent.loader.nat_ports import NatPortsWord, local_ports, masquerade_ports
from services.agent.loader.sizes import max_entries, memory_bytes

BPF_F_IPV6: Final = 1 << 7
IPV6_CHECKSUM_KERNEL: Final = (6, 16)
"""The first kernel that knows this flag of bpf_l4_csum_replace."""
OBJECT: Final = OBJECTS / "cilia.o"
PODS_SHARING_NAT: Final = 8
"""Pods that together may fill the map of mappings."""
EVENT_BURST_SECONDS: Final = 4
"""Seconds' worth of reports that may come at once."""


def install_datapath(config: Config, devices: NodeDevices, attach: Callable[[LoadedObject], None]) -> LoadedObject:
    """Load the programs over the pinned maps and have them attached.

    A map that is pinned with another layout or size than is wanted now is made anew and gets the
    entries of the pinned one, flows included, while traffic goes on. Until the new programs are
    attached, nothing is changed.

    Raises:
        CannotMigrate, MapFull: Entries have no place in a map as it is wanted.
        LoadFailed: The kernel refused a program.
    """
    ensure_bpffs()
    pins = Path(config.pin_directory)
    recover(pins)
    objects = load_datapath(config, devices)
    migration = Migration(objects, pins)
    try:
        migration.copy()
        with closing(NatPortsWord(objects)) as ports:
            ports.follow(*masquerade_ports(*local_ports()))
        migration.commit()
        attach(objects)
        migration.finish()
    except BaseException:
        objects.close()
        raise
    finally:
        migration.close()
    return objects


def load_datapath(config: Config, devices: NodeDevices) -> LoadedObject:
    """Load the programs over the pinned maps.

    Raises:
        LoadFailed: The kernel refused a program.
    """
    pins = Path(config.pin_directory)
    pins.mkdir(parents=True, exist_ok=True)
    sizes = max_entries(config.maps, memory_bytes())
    loading = LoadOptions(
        variables=variables(
            config,
            devices,
            kernel=kernel_version(),
            nat_entries=sizes[maps.NAT.name],
            reads_offload=reads_kernel_context(),
        ),
        max_entries=sizes,
        pin_directory=pins,
        migrate=True,
    )
    return load(Path(config.object_file) if config.object_file else OBJECT, loading)


def variables(
    config: Config, devices: NodeDevices, *, kernel: tuple[int, int], nat_entries: int, reads_offload: bool
) -> dict[str, int | bool | bytes]:
    """Return the values of the programs' read-only variables (bpf/lib/config.h).

    Args:
        nat_entries: Size of cilia_nat, which holds two entries a mapping.
        reads_offload: Programs can compare offloads with headers.
    """
    return {
        "node_ipv4": ipv4_number(config.ipv4),
        "node_ipv6": packed(number(config.ipv6) if config.ipv6 else 0),
        "overlay_ifindex": devices.vxlan,
        "overlay_mtu": devices.mtu_bytes if devices.vxlan else 0,
        "tunnel_port": config.vxlan_port,
        "is_native": config.routing is RoutingMode.NATIVE,
        "masquerades": config.masquerade,
        "nat_quota": min(config.nat_quota or nat_entries, max(nat_entries // 2 // PODS_SHARING_NAT, 1)),
        "ipv6_checksum_flag": BPF_F_IPV6 if kernel >= IPV6_CHECKSUM_KERNEL else 0,
        "ticks_per_second": TICKS_PER_SECOND,
        "reads_offload": reads_offload,
        "trace_ticks": int(config.trace_seconds * TICKS_PER_SECOND),
        "event_rate": config.event_limit,
        "event_burst": EVENT_BURST_SECONDS * config.event_limit,
        "node_event_rate": config.node_event_limit,
        "node_event_burst": EVENT_BURST_SECONDS * config.node_event_limit,
    }


def defences_off(*, reads_offload: bool) -> tuple[str, ...]:
    """Return the defences of the programs that the kernel has no means for, a sentence each."""
    if reads_offload:
        return ()
    return ("offloads of pods' packets are not compared with their headers (Linux 6.2, with BTF)",)
