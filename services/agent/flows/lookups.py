"""Lookups of the names behind numbers: endpoints, addresses, policies, and pods' named ports."""

from cilia.contracts.ids import EndpointId
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey, PolicyObject, policy_cookie
from cilia.table.subscriber import TableSubscriber
from services.agent.address import unpacked
from services.agent.endpoint.store import Endpoints
from services.agent.flows.aggregation import NamedPorts
from services.agent.flows.naming import Names
from services.agent.ipcache.desired import Ipcache


class PolicyNames:
    """Cookie -> key of the policy object. ``watch`` goes to the supervisor."""

    def __init__(self, policies: TableSubscriber[str, PolicyObject]) -> None:
        self._policies = policies
        self._keys: dict[int, str] = {}

    def get(self, cookie: int) -> str:
        """Return the key behind a cookie, or the cookie itself where it isn't known (any more)."""
        return self._keys.get(cookie, f"#{cookie:08x}")

    async def watch(self) -> None:
        """Follow the table of policies until cancelled; names stay, for late events."""
        async for changes in self._policies.changes():
            for change in changes:
                self._keys.update((policy_cookie(key), key) for key in change.upserts)


class PodLookup:
    """Names of pods, and of their ports: local ones by id, those of other nodes by address."""

    def __init__(self, local: Endpoints, ipcache: Ipcache, endpoints: TableSubscriber[EndpointKey, Endpoint]) -> None:
        self._local = local
        self._ipcache = ipcache
        self._endpoints = endpoints

    def names(self, policies: PolicyNames) -> Names:
        """Return the lookups that the naming of events needs."""
        return Names(endpoint=self.local_name, address=self.remote_name, policy=policies.get)

    def local_name(self, endpoint: int) -> str:
        """Return ``namespace/name`` of a local endpoint, or an empty text."""
        pod = self._local.get(EndpointId(endpoint))
        return pod.full_name if pod is not None else ""

    def remote_name(self, address: int) -> str:
        """Return ``namespace/name`` of the pod that has an address, or an empty text."""
        row = self._row(address)
        return f"{row.namespace}/{row.name}" if row is not None else ""

    def named_ports(self, endpoint: int, address: bytes) -> NamedPorts:
        """Return the ports that a pod names: by the id of a local one, else by its address."""
        pod = self._local.get(EndpointId(endpoint)) if endpoint else None
        if pod is not None:
            return pod.named_ports
        row = self._row(unpacked(address))
        return row.named_ports if row is not None else ()

    def _row(self, address: int) -> Endpoint | None:
        key = self._ipcache.owner(address)
        return self._endpoints.rows(ENDPOINTS.shard(key)).get(key) if key is not None else None
