"""The calls of ipam: validate, carry out in etcd, answer. Nothing is kept between two calls."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from cilia.calls import Calls
from cilia.contracts.ipam import (
    MOST_NODE_ADDRESSES,
    Granted,
    GrowBlocks,
    Registered,
    RegisterNode,
    ShrinkBlocks,
    TellAddresses,
    UnregisterNode,
)
from cilia.contracts.labels import NODE, BadLabel, node
from cilia.contracts.messages import Revised
from services.ipam.errors import BadField
from services.ipam.grants import Grants
from services.ipam.removal import Removal

NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""An RFC 1123 label: it is a token of subjects and of keys."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Calls that every replica answers; heartbeats are the elected one's."""

    grants: Grants
    removal: Removal
    stale_seconds: float

    @property
    def calls(self) -> Calls:
        """The calls, for :func:`cilia.calls.serve`."""
        return {
            "register": (RegisterNode, self.register),
            "grow": (GrowBlocks, self.grow),
            "addresses": (TellAddresses, self.tell_addresses),
            "shrink": (ShrinkBlocks, self.shrink),
            "unregister": (UnregisterNode, self.unregister),
        }

    async def register(self, request: RegisterNode) -> Registered:
        """Enter the cluster, or come back to it."""
        if not NODE_NAME.fullmatch(request.name):
            raise BadField("name", request.name, "a node's name is at most 63 lower case letters, digits and dashes")
        _check_address("ipv4", request.ipv4, version=4)
        if request.ipv6:
            _check_address("ipv6", request.ipv6, version=6)
        _check_labels(request.labels)
        for cidr in request.blocks:
            _check_block("blocks", cidr)
        if not (request.pool or request.pool6):
            raise BadField("pool", request.pool, "a node's pods have addresses of one pool at least")
        registration = await self.grants.register(request)
        return Registered(registration.incarnation, self.stale_seconds, registration.row, registration.revision)

    async def grow(self, request: GrowBlocks) -> Granted:
        """Grant one more block."""
        return await self.grants.grow(request.node, request.incarnation, request.pool)

    async def tell_addresses(self, request: TellAddresses) -> Revised:
        """Enter the addresses of a node's devices."""
        if len(request.addresses) > MOST_NODE_ADDRESSES:
            raise BadField("addresses", str(len(request.addresses)), f"are more than {MOST_NODE_ADDRESSES}")
        for address in request.addresses:
            _check_address("addresses", address)
        return Revised(await self.grants.tell_addresses(request.node, request.incarnation, request.addresses))

    async def shrink(self, request: ShrinkBlocks) -> Revised:
        """Take a block back."""
        _check_block("cidr", request.cidr)
        return Revised(await self.grants.shrink(request.node, str(ip_network(request.cidr))))

    async def unregister(self, request: UnregisterNode) -> Revised:
        """Leave the cluster, or have a node removed."""
        node, incarnation = request.node, request.incarnation
        return Revised(await self.removal.unregister(node, incarnation, only_stale=request.only_stale))


def _check_labels(labels: Iterable[str]) -> None:
    try:
        node(labels)
    except BadLabel as error:
        raise BadField("labels", error.text.removeprefix(f"{NODE}:"), str(error)) from error


def _check_block(field: str, cidr: str) -> None:
    try:
        ip_network(cidr)
    except ValueError as error:
        raise BadField(field, cidr, str(error)) from error


def _check_address(field: str, text: str, *, version: int | None = None) -> None:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise BadField(field, text, str(error)) from error
    if version and address.version != version:
        raise BadField(field, text, f"is no IPv{version} address")
