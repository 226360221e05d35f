"""Table of the node's routes to other nodes' pods: those of our protocol number in the kernel.

By that number a restarted agent finds what a former one left. Blocks on RTNL: for the worker
thread.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from cilia.reconcile.plan import WriteResult
from services.agent.netlink.rtnetlink import NLM_F_CREATE, NLM_F_REPLACE, Request, RtNetlink, attribute, attributes
from services.agent.routes.desired import Network, Route

PROTOCOL: Final = 0xC1
"""Origin of our routes (rtm_protocol); none of those that iproute2 names."""
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RT_TABLE_MAIN: Final = 254
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_NOWHERE: Final = 255  # in a removal: whatever the scope
RTN_UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
RTMSG: Final = struct.Struct("=8BI")
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


class RouteTable:
    """Reads and writes routes. Lives in the worker thread that made it, in the node's namespace."""

    def __init__(self) -> None:
        self._netlink = RtNetlink()

    def close(self) -> None:
        """Give the socket back; routes stay."""
        self._netlink.close()

    def read(self) -> dict[Network, Route]:
        """Return the routes of our protocol number, of both families."""
        found: dict[Network, Route] = {}
        for family in FAMILIES.values():
            request = RTMSG.pack(family, 0, 0, 0, RT_TABLE_MAIN, PROTOCOL, 0, 0, 0)
            for payload in self._netlink.dump(RTM_GETROUTE, request):
                if payload[5] == PROTOCOL:
                    network, route = _parse(payload)
                    found[network] = route
        return found

    def write(self, changes: Mapping[Network, Route | None]) -> WriteResult[Network]:
        """Make and remove (None) routes."""
        errors = self._netlink.call_many([_request(network, route) for network, route in changes.items()])
        refused = {
            network: os.strerror(error)
            for (network, route), error in zip(changes.items(), errors, strict=True)
            if error and not (route is None and error == errno.ESRCH)
        }
        return WriteResult(refused)


def is_as_wanted(present: Route, wanted: Route) -> bool:
    """Tell whether a route of the kernel's is the wanted one, which may leave the device open."""
    return (present if wanted.device else present._replace(device=0)) == wanted


def _request(network: Network, route: Route | None) -> Request:
    flags = RTNH_F_ONLINK if route and route.onlink else 0
    head = RTMSG.pack(
        FAMILIES[network.version],
        network.prefixlen,
        0,
        0,
        RT_TABLE_MAIN,
        PROTOCOL,
        RT_SCOPE_UNIVERSE if route else RT_SCOPE_NOWHERE,
        RTN_UNICAST if route else 0,
        flags,
    )
    body = head + attribute(RTA_DST, network.network_address.packed)
    if route is None:
        return Request(RTM_DELROUTE, 0, body)
    body += attribute(RTA_GATEWAY, ip_address(route.gateway).packed)
    if route.device:
        body += attribute(RTA_OIF, struct.pack("=I", route.device))
    if route.source:
        body += attribute(RTA_PREFSRC, ip_address(route.source).packed)
    return Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def _parse(payload: bytes) -> tuple[Network, Route]:
    family, prefix_length, *_, flags = RTMSG.unpack_from(payload)
    found = attributes(payload[RTMSG.size :])
    any_address = bytes(4 if family == socket.AF_INET else 16)
    network = ip_network((found.get(RTA_DST, any_address), prefix_length))
    gateway = found.get(RTA_GATEWAY)
    device = found.get(RTA_OIF)
    source = found.get(RTA_PREFSRC)
    return network, Route(
        gateway=str(ip_address(gateway)) if gateway else "",
        device=int.from_bytes(device, "little") if device else 0,
        source=str(ip_address(source)) if source else "",
        onlink=bool(flags & RTNH_F_ONLINK),
    )
