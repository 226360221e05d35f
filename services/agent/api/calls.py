"""Calls of the agent (cilia.contracts.agent), the same on its socket and on the bus."""

import asyncio

from cilia.calls import Calls
from cilia.contracts.agent import (
    AgentStatus,
    AuditEndpoint,
    AwaitAddresses,
    AwaitPrefixes,
    CreateEndpoint,
    EndpointPolicy,
    EndpointReference,
    LocalEndpoint,
    LocalEndpoints,
    MapContents,
    MapList,
    MapQuery,
    PolicyRule,
    RelabelEndpoint,
)
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.datapath.objects import LoadedObject
from cilia.errors import Refused
from services.agent.api.mapview import LAYOUTS, contents, summarise
from services.agent.api.problems import refusing
from services.agent.api.status import Status
from services.agent.api.validation import check_endpoint
from services.agent.endpoint.room import EndpointRoom
from services.agent.endpoint.stages import state_of
from services.agent.endpoint.store import Pod
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.policy.reconciler import PolicyReconciler


class Api:
    """Answers to calls. Raises Refused with the field at fault."""

    def __init__(
        self,
        node: NodeName,
        *,
        endpoints: EndpointRoom,
        policy: PolicyReconciler,
        ipcache: IpcacheReconciler,
        objects: LoadedObject,
        status: Status,
    ) -> None:
        self._node = node
        self._endpoints = endpoints.endpoints
        self._lifecycle = endpoints.lifecycle
        self._unaware = endpoints.unaware
        self._policy = policy
        self._ipcache = ipcache
        self._objects = objects
        self._collector = status

    def calls(self) -> Calls:
        """Return every call with the type of its arguments."""
        return {
            "status": (Empty, self._status),
            "endpoint-create": (CreateEndpoint, refusing(self._create)),
            "endpoint-delete": (EndpointReference, refusing(self._delete)),
            "endpoint-relabel": (RelabelEndpoint, refusing(self._relabel)),
            "endpoint-audit": (AuditEndpoint, refusing(self._audit)),
            "endpoint-list": (Empty, self._list),
            "endpoint-get": (EndpointReference, refusing(self._get)),
            "policy-get": (EndpointReference, refusing(self._policy_of)),
            "prefixes-wait": (AwaitPrefixes, refusing(self._await_prefixes)),
            "addresses-wait": (AwaitAddresses, refusing(self._await_addresses)),
            "map-list": (Empty, self._maps),
            "map-get": (MapQuery, refusing(self._map)),
        }

    async def _create(self, request: CreateEndpoint) -> LocalEndpoint:
        check_endpoint(request)
        return self._describe(await self._lifecycle.create(request))

    async def _delete(self, request: EndpointReference) -> Empty:
        await self._lifecycle.delete(request)
        return Empty()

    async def _relabel(self, request: RelabelEndpoint) -> LocalEndpoint:
        return self._describe(await self._lifecycle.relabel(request))

    async def _audit(self, request: AuditEndpoint) -> LocalEndpoint:
        return self._describe(await self._lifecycle.audit(request))

    async def _list(self, _request: Empty) -> LocalEndpoints:
        return LocalEndpoints(tuple(map(self._describe, self._endpoints)))

    async def _get(self, request: EndpointReference) -> LocalEndpoint:
        return self._describe(self._endpoints.find(request))

    async def _policy_of(self, request: EndpointReference) -> EndpointPolicy:
        pod = self._endpoints.find(request)
        rules = tuple(PolicyRule(key, entry) for key, entry in self._policy.read(pod.identity).items())
        return EndpointPolicy(pod.id, pod.identity, self._policy.realised.get(pod.identity, 0), rules)

    async def _await_prefixes(self, request: AwaitPrefixes) -> Empty:
        async with asyncio.timeout(request.timeout_seconds):
            await self._ipcache.wait_prefixes(request.prefixes)
        return Empty()

    async def _await_addresses(self, request: AwaitAddresses) -> Empty:
        async with asyncio.timeout(request.timeout_seconds):
            await self._ipcache.wait_addresses(request.addresses, request.identity)
        return Empty()

    async def _maps(self, _request: Empty) -> MapList:
        return MapList(summarise(self._objects))

    async def _map(self, request: MapQuery) -> MapContents:
        if request.name not in LAYOUTS:
            known = ", ".join(sorted(LAYOUTS))
            text = f"no map {request.name!r}; there are {known}"
            raise Refused(Problem(ProblemCode.NOT_FOUND, text, "name", request.name))
        return contents(self._objects, request.name, request.limit)

    async def _status(self, _request: Empty) -> AgentStatus:
        return self._collector.status()

    def _describe(self, pod: Pod) -> LocalEndpoint:
        unaware = self._unaware(pod.identity)
        return LocalEndpoint(
            id=pod.id,
            namespace=pod.namespace,
            name=pod.name,
            node=self._node,
            state=state_of(pod, in_force=self._policy.in_force(pod.identity)),
            identity=pod.identity,
            labels=pod.labels,
            ipv4=pod.ipv4,
            gateway=pod.gateway,
            mac=pod.mac,
            interface=pod.interface,
            host_interface=pod.host_interface,
            ifindex=pod.ifindex,
            netns=pod.netns,
            policy_revision=self._policy.realised.get(pod.identity, Revision(0)),
            ipv6=pod.ipv6,
            gateway_ipv6=pod.gateway_ipv6,
            audit=pod.audit,
            known_everywhere=unaware is None,
            unaware_nodes=unaware or (),
        )
