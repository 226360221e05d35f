"""The calls of the identity service: validate, carry out in etcd, answer.

Nothing is kept between two calls.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import msgspec

from cilia.calls import Calls
from cilia.contracts.identities import Reserved
from cilia.contracts.identity_service import (
    Allocated,
    AllocateIdentity,
    AllocatePrefixes,
    Published,
    PublishEndpoint,
    ReleaseIdentity,
    WithdrawEndpoint,
)
from cilia.contracts.ids import EndpointId, Identity, Revision
from cilia.contracts.keys import Keys
from cilia.contracts.labels import (
    DEFAULT_SOURCE,
    NAME_OF_NAMESPACE,
    NAMESPACE,
    NAMESPACE_LABELS,
    BadLabel,
    Labels,
    canonical,
    named_port_labels,
    parse_labels,
)
from cilia.contracts.messages import Revised
from cilia.contracts.tables import Endpoint
from cilia.kvstore import Etcd, Op, Txn, put
from services.identity.address_labels import prefix_labels
from services.identity.allocator import Allocator
from services.identity.errors import BadField
from services.identity.label_filter import LabelFilter
from services.identity.member import Member
from services.identity.numbers import reserved_identity

WORKLOAD_SOURCES: Final = frozenset({DEFAULT_SOURCE, "container"})
"""Sources of the labels that workloads have by themselves or by their namespace."""

WORKLOAD_RESERVED: Final = frozenset({Reserved.INIT.label, Reserved.HEALTH.label})


@dataclass(frozen=True, slots=True)
class Requests:
    """Calls that the service answers."""

    etcd: Etcd
    keys: Keys
    allocator: Allocator
    cidrs: Allocator
    """Allocator of the identities of prefixes."""
    label_filter: LabelFilter

    @property
    def calls(self) -> Calls:
        """The calls, for :func:`cilia.calls.serve`."""
        return {
            "allocate": (AllocateIdentity, self.allocate),
            "prefixes": (AllocatePrefixes, self.prefixes),
            "release": (ReleaseIdentity, self.release),
            "publish": (PublishEndpoint, self.publish),
            "withdraw": (WithdrawEndpoint, self.withdraw),
        }

    async def allocate(self, request: AllocateIdentity) -> Allocated:
        """Give the identity of a label set, referenced by the holder until it releases it."""
        labels = self._labels_that_count(request.labels)
        if not request.holder or "/" in request.holder:
            raise BadField("holder", request.holder, "a holder has a name, without '/'")

        def refer(identity: Identity) -> Op:
            return put(self.keys.identity_ref(identity, request.holder), b"")

        reserved = reserved_identity(labels)
        if reserved is not None:
            return Allocated(reserved, Revision((await self.etcd.txn(Txn((), (refer(reserved),)))).revision))
        return Allocated(*await self.allocator.allocate(canonical(labels), refer))

    async def publish(self, request: PublishEndpoint) -> Published:
        """Write an endpoint's row with the identity of its labels, in one transaction, as long as
        its node is a member.
        """
        row, labels = request.endpoint, self._labels_that_count(request.labels)
        check_endpoint(row)
        check_vouched(labels, row)
        member = Member(self.keys, row.node, request.incarnation)

        def with_identity(identity: Identity) -> Endpoint:
            return msgspec.structs.replace(row, identity=identity)

        def write(identity: Identity) -> Op:
            value = msgspec.json.encode(with_identity(identity))
            return put(self.keys.endpoint(row.node, row.id), value)

        identity = reserved_identity(labels)
        if identity is not None:
            outcome = await self.etcd.txn(Txn((member.condition,), (write(identity),), (member.read,)))
            if not outcome.succeeded:
                member.require(outcome)
            revision = Revision(outcome.revision)
        else:
            named = canonical(labels | named_port_labels(row.named_ports))
            identity, revision = await self.allocator.allocate(named, write, member)
        return Published(with_identity(identity), revision)

    async def prefixes(self, request: AllocatePrefixes) -> Revised:
        """Have identities for prefixes that a policy is about to name."""
        wanted = sorted(map(prefix_labels, request.prefixes))
        reserved = await asyncio.gather(*map(self.cidrs.reserve, wanted))  # at once: together they are few requests
        return Revised(max((revision for _, revision in reserved), default=Revision(0)))

    async def release(self, request: ReleaseIdentity) -> Revised:
        """Give up a holder's reference; one that is not there is given up already."""
        return await self._remove(self.keys.identity_ref(request.identity, request.holder))

    async def withdraw(self, request: WithdrawEndpoint) -> Revised:
        """Remove an endpoint's row; one that is not there is withdrawn already."""
        return await self._remove(self.keys.endpoint(request.node, EndpointId(request.id)))

    def _labels_that_count(self, texts: Iterable[str]) -> Labels:
        labels = self.label_filter.identity_labels(read_labels(texts))
        if not labels:
            raise BadField("labels", ",".join(texts), "none of them counts for an identity")
        return labels

    async def _remove(self, key: str) -> Revised:
        return Revised(Revision(await self.etcd.delete(key)))


def read_labels(texts: Iterable[str]) -> Labels:
    """Parse a request's labels.

    Raises:
        BadField: One is no label, a key has two values, or there are none.
    """
    try:
        labels = parse_labels(texts)
    except BadLabel as error:
        raise BadField("labels", error.text, str(error)) from error
    if not labels:
        raise BadField("labels", "", "an identity stands for at least one label")
    return labels


def check_vouched(labels: Labels, row: Endpoint) -> None:
    """Refuse labels by which an endpoint would pass for something else than a workload of its
    namespace.

    Raises:
        BadField: A label is of a source that no workload has, or names another namespace.
    """
    for label in sorted(labels):
        if label.source not in WORKLOAD_SOURCES and str(label) not in WORKLOAD_RESERVED:
            raise BadField("labels", str(label), "no workload has labels of this source")
        if label.key in (NAMESPACE, NAMESPACE_LABELS + NAME_OF_NAMESPACE) and label.value != row.namespace:
            raise BadField("labels", str(label), f"the endpoint's namespace is {row.namespace!r}")


def check_endpoint(row: Endpoint) -> None:
    """Refuse a row that nodes could not use.

    Raises:
        BadField: Names the field.
    """
    if not row.node or "/" in row.node:
        raise BadField("endpoint.node", row.node, "a node has a name, without '/'")
    if not 1 <= row.id <= 65_535:
        raise BadField("endpoint.id", str(row.id), "an endpoint's number is 1 to 65535")
    for field, address, kind in (("ipv4", row.ipv4, IPv4Address), ("ipv6", row.ipv6, IPv6Address)):
        if not address and (row.ipv4 or row.ipv6):
            continue
        try:
            kind(address)
        except AddressValueError as error:
            raise BadField(f"endpoint.{field}", address, str(error)) from error
