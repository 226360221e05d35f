"""The agent's calls (cilia.contracts.agent), the same on its socket and on the bus."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cilia.calls import Calls
from cilia.contracts.agent import (
    AgentStatus,
    AuditEndpoint,
    AwaitPrefixes,
    CreateEndpoint,
    EndpointPolicy,
    EndpointReference,
    EndpointState,
    LocalEndpoint,
    LocalEndpoints,
    MapContents,
    MapList,
    MapQuery,
    PolicyRule,
    RelabelEndpoint,
)
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.labels import BadLabel
from cilia.contracts.messages import Empty, Message, Problem, ProblemCode
from cilia.datapath.errors import DatapathError, MapFull
from cilia.datapath.objects import LoadedObject
from cilia.errors import Refused
from cilia.netns import NoNetworkNamespace
from services.agent.api.maps import LAYOUTS, contents, summarise
from services.agent.api.status import Health
from services.agent.endpoint.lifecycle import EndpointLifecycle
from services.agent.endpoint.store import Endpoints, Pod
from services.agent.errors import (
    AgentError,
    BadField,
    InterfaceTaken,
    NameTaken,
    NoEndpointId,
    NoSlot,
    PolicyDoesNotFit,
    PoolExhausted,
    TooSlow,
    UnknownEndpoint,
)
from services.agent.ipcache.reconciler import IpcacheReconciler
from services.agent.policy.reconciler import PolicyReconciler

M = TypeVar("M", bound=Message)


class Api:
    """Answers calls. Raises Refused with the field at fault."""

    def __init__(
        self,
        node: NodeName,
        *,
        endpoints: Endpoints,
        connections: EndpointLifecycle,
        realiser: PolicyReconciler,
        locations: IpcacheReconciler,
        objects: LoadedObject,
        health: Health,
    ) -> None:
        self._node = node
        self._endpoints = endpoints
        self._connections = connections
        self._realiser = realiser
        self._locations = locations
        self._objects = objects
        self._health = health

    def calls(self) -> Calls:
        """Return every call with the type of its arguments."""
        return {
            "status": (Empty, self._status),
            "endpoint-create": (CreateEndpoint, _refusing(self._create)),
            "endpoint-delete": (EndpointReference, _refusing(self._delete)),
            "endpoint-relabel": (RelabelEndpoint, _refusing(self._relabel)),
            "endpoint-audit": (AuditEndpoint, _refusing(self._audit)),
            "endpoint-list": (Empty, self._list),
            "endpoint-get": (EndpointReference, _refusing(self._get)),
            "policy-get": (EndpointReference, _refusing(self._policy)),
            "prefixes-wait": (AwaitPrefixes, _refusing(self._await_prefixes)),
            "map-list": (Empty, self._maps),
            "map-get": (MapQuery, _refusing(self._map)),
        }

    async def _create(self, request: CreateEndpoint) -> LocalEndpoint:
        for field, value in (("namespace", request.namespace), ("name", request.name), ("netns", request.netns)):
            if not value or (field != "netns" and "/" in value):
                raise Refused(Problem(ProblemCode.INVALID, f"{value!r} is no {field}", field, value))
        if not 0 < len(request.interface) < 16:
            raise Refused(
                Problem(ProblemCode.INVALID, "a device's name has 1 to 15 bytes", "interface", request.interface)
            )
        return self._describe(await self._connections.create(request))

    async def _delete(self, request: EndpointReference) -> Empty:
        await self._connections.delete(request)
        return Empty()

    async def _relabel(self, request: RelabelEndpoint) -> LocalEndpoint:
        return self._describe(await self._connections.relabel(request))

    async def _audit(self, request: AuditEndpoint) -> LocalEndpoint:
        return self._describe(await self._connections.audit(request))

    async def _list(self, _request: Empty) -> LocalEndpoints:
        return LocalEndpoints(tuple(map(self._describe, self._endpoints)))

    async def _get(self, request: EndpointReference) -> LocalEndpoint:
        return self._describe(self._endpoints.find(request))

    async def _policy(self, request: EndpointReference) -> EndpointPolicy:
        pod = self._endpoints.find(request)
        rules = tuple(PolicyRule(key, entry) for key, entry in self._realiser.read(pod.identity).items())
        return EndpointPolicy(pod.id, pod.identity, self._realiser.realised.get(pod.identity, 0), rules)

    async def _await_prefixes(self, request: AwaitPrefixes) -> Empty:
        async with asyncio.timeout(request.timeout_seconds):
            await self._locations.wait_prefixes(request.prefixes)
        return Empty()

    async def _maps(self, _request: Empty) -> MapList:
        return MapList(summarise(self._objects))

    async def _map(self, request: MapQuery) -> MapContents:
        if request.name not in LAYOUTS:
            known = ", ".join(sorted(LAYOUTS))
            raise Refused(
                Problem(ProblemCode.NOT_FOUND, f"no map {request.name!r}; there are {known}", "name", request.name)
            )
        return contents(self._objects, request.name, request.limit)

    async def _status(self, _request: Empty) -> AgentStatus:
        return self._health.status()

    def _state(self, pod: Pod) -> EndpointState:
        if pod.disconnecting:
            return EndpointState.DISCONNECTING
        if not pod.identity:
            return EndpointState.WAITING_FOR_IDENTITY
        in_force = self._realiser.in_force(pod.identity)
        return EndpointState.READY if in_force else EndpointState.WAITING_FOR_POLICY

    def _describe(self, pod: Pod) -> LocalEndpoint:
        return LocalEndpoint(
            id=pod.id,
            namespace=pod.namespace,
            name=pod.name,
            node=self._node,
            state=self._state(pod),
            identity=pod.identity,
            labels=pod.labels,
            ipv4=pod.ipv4,
            gateway=pod.gateway,
            mac=pod.mac,
            interface=pod.interface,
            host_interface=pod.host_interface,
            ifindex=pod.ifindex,
            netns=pod.netns,
            policy_revision=self._realiser.realised.get(pod.identity, Revision(0)),
            ipv6=pod.ipv6,
            gateway_ipv6=pod.gateway_ipv6,
            audit=pod.audit,
        )


def problem_of(error: AgentError | NoNetworkNamespace | BadLabel | DatapathError | TimeoutError) -> Problem:
    """Describe an error to a caller, with the field at fault."""
    match error:
        case UnknownEndpoint():
            return Problem(ProblemCode.NOT_FOUND, str(error), error.field, error.value)
        case NameTaken():
            return Problem(ProblemCode.CONFLICT, str(error), "name", error.name)
        case BadField():
            return Problem(ProblemCode.INVALID, str(error), error.field, error.value)
        case InterfaceTaken():
            return Problem(ProblemCode.CONFLICT, str(error), "interface", error.interface)
        case NoNetworkNamespace():
            return Problem(ProblemCode.INVALID, str(error), "netns", error.path)
        case PoolExhausted() | NoEndpointId() | NoSlot() | PolicyDoesNotFit() | MapFull():
            return Problem(ProblemCode.EXHAUSTED, str(error))
        case BadLabel():
            return Problem(ProblemCode.INVALID, str(error), "labels", error.text)
        case TooSlow():
            return Problem(ProblemCode.UNAVAILABLE, str(error), "timeout_seconds", f"{error.seconds:g}")
        case TimeoutError():
            return Problem(ProblemCode.UNAVAILABLE, "not done within the given time", "timeout_seconds")
        case _:
            return Problem(ProblemCode.INTERNAL, str(error))


def _refusing(answer: Callable[[Any], Awaitable[M]]) -> Callable[[Any], Awaitable[M]]:
    async def call(request: Any) -> M:
        try:
            return await answer(request)
        except (AgentError, NoNetworkNamespace, BadLabel, DatapathError, TimeoutError) as error:
            raise Refused(problem_of(error)) from error

    return call
