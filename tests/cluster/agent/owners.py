"""Stand-ins for ipam, identity and policy: real calls and real tables on a real bus, their truth in
memory.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cilia.bus import Bus
from cilia.calls import serve
from cilia.contracts.identity_service import Published, PublishEndpoint, WithdrawEndpoint
from cilia.contracts.ids import EndpointId, Identity, Incarnation, NodeName, Revision
from cilia.contracts.ipam import Granted, GrowBlocks, Heartbeat, Registered, RegisterNode, TellAddresses
from cilia.contracts.messages import Empty, Problem, ProblemCode, Revised
from cilia.contracts.tables import (
    ENDPOINTS,
    NODES,
    POLICIES,
    PREFIXES,
    RESOLVED,
    Endpoint,
    EndpointKey,
    Node,
    PolicyEntry,
    PolicyKey,
    SubjectKey,
)
from cilia.errors import Refused
from cilia.table.publisher import TablePublisher

ALLOW_ALL: Mapping[PolicyKey, PolicyEntry] = {
    PolicyKey(egress, Identity(0), 0, 0, 0): PolicyEntry(deny=False, precedence=0) for egress in (False, True)
}


@dataclass
class Owners:
    """Answers agents. ``policy`` gives a new identity's entries."""

    bus: Bus
    policy: Mapping[PolicyKey, PolicyEntry] = field(default_factory=lambda: ALLOW_ALL)
    revision: int = 100
    stale_seconds: int = 15
    incarnation: int = 7
    resolving: bool = True
    """False: policy is away, new identities get no entries and no sequence."""
    identities: dict[tuple[str, ...], Identity] = field(default_factory=dict)
    nodes: dict[NodeName, int] = field(default_factory=dict)
    rows: dict[EndpointKey, Endpoint] = field(default_factory=dict)
    resolved: dict[SubjectKey, PolicyEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.publishers: dict[str, TablePublisher[Any, Any]] = {
            table.name: TablePublisher(self.bus, table) for table in (NODES, ENDPOINTS, POLICIES, PREFIXES, RESOLVED)
        }
        for publisher in self.publishers.values():
            publisher.reset({}, self.revision, 1)
            publisher.lead()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                serve(
                    self.bus,
                    "ipam",
                    {
                        "register": (RegisterNode, self._register),
                        "heartbeat": (Heartbeat, self._heartbeat),
                        "grow": (GrowBlocks, self._grow),
                        "addresses": (TellAddresses, self._tell_addresses),
                    },
                )
            )
            group.create_task(
                serve(
                    self.bus,
                    "identity",
                    {"publish": (PublishEndpoint, self._publish), "withdraw": (WithdrawEndpoint, self._withdraw)},
                )
            )
            for publisher in self.publishers.values():
                for loop in publisher.loops().values():
                    group.create_task(loop())

    def commit(self, table: str, upserts: Mapping[Any, Any], removes: tuple[Any, ...] = ()) -> Revision:
        self.revision += 1
        for name, publisher in self.publishers.items():
            if name == "resolved" and not self.resolving:
                continue
            publisher.commit(self.revision, upserts if name == table else {}, removes if name == table else ())
        return Revision(self.revision)

    def resolve(self, identity: Identity, entries: Mapping[PolicyKey, PolicyEntry]) -> Revision:
        """Give an identity other entries."""
        old = {key for key in self.resolved if key.subject == identity}
        new = {SubjectKey(identity, key): entry for key, entry in entries.items()}
        self.resolved = {k: v for k, v in self.resolved.items() if k not in old} | new
        return self.commit("resolved", new, tuple(old - new.keys()))

    async def _register(self, request: RegisterNode) -> Registered:
        third = 66 + self.nodes.setdefault(request.name, len(self.nodes))
        blocks = (request.pool and f"10.{third}.0.0/24", request.pool6 and f"fd00:{third}::/64")
        node = Node(request.name, request.ipv4, request.ipv6, pod_cidrs=tuple(filter(None, blocks)))
        return Registered(
            Incarnation(self.incarnation), self.stale_seconds, node, self.commit("nodes", {request.name: node})
        )

    def remove_nodes(self) -> None:
        """Declare every node dead: its rows go."""
        self.incarnation += 1
        self.commit("endpoints", {}, tuple(self.rows))
        self.rows.clear()

    async def _heartbeat(self, request: Heartbeat) -> Empty:
        if request.incarnation != self.incarnation:
            raise Refused(Problem(ProblemCode.NOT_FOUND, "the node was removed"))
        return Empty()

    async def _grow(self, _request: GrowBlocks) -> Granted:
        return Granted("10.99.0.0/24", Revision(self.revision))

    async def _tell_addresses(self, _request: TellAddresses) -> Revised:
        return Revised(Revision(self.revision))

    async def _publish(self, request: PublishEndpoint) -> Published:
        identity = self.identities.get(request.labels)
        if identity is None:
            identity = self.identities[request.labels] = Identity(256 + len(self.identities))
            if self.resolving:
                self.resolve(identity, self.policy)
        row = msgspec.structs.replace(request.endpoint, identity=identity)
        self.rows[EndpointKey(row.node, row.id)] = row
        return Published(row, self.commit("endpoints", {EndpointKey(row.node, row.id): row}))

    async def _withdraw(self, request: WithdrawEndpoint) -> Revised:
        key = EndpointKey(NodeName(request.node), EndpointId(request.id))
        self.rows.pop(key, None)
        return Revised(self.commit("endpoints", {}, (key,)))
