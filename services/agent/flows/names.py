"""Names for what the kernel knows by number: endpoints, addresses, policies, reasons."""

from collections.abc import Callable

from cilia.abi.enums import DropReason
from cilia.contracts.ids import EndpointId
from cilia.contracts.tables import ENDPOINTS, Endpoint, EndpointKey, PolicyObject, policy_cookie
from cilia.table.subscriber import TableSubscriber
from services.agent.address import unpacked
from services.agent.endpoint.store import Endpoints
from services.agent.flows.events import Names
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
        """Follow the table of policies until cancelled; names of removed policies stay, for late
        events.
        """
        async for changes in self._policies.changes():
            for change in changes:
                self._keys.update((policy_cookie(key), key) for key in change.upserts)


def names_of(
    pods: Endpoints,
    ipcache: Ipcache,
    endpoints: TableSubscriber[EndpointKey, Endpoint],
    policies: PolicyNames,
) -> Names:
    """Return how this node names what its programs report."""

    def endpoint(number: int) -> str:
        pod = pods.get(EndpointId(number))
        return pod.full_name if pod is not None else ""

    def address(number: int) -> str:
        key = ipcache.owner(number)
        row = endpoints.rows(ENDPOINTS.shard(key)).get(key) if key is not None else None
        return f"{row.namespace}/{row.name}" if row is not None else ""

    return Names(endpoint=endpoint, address=address, policy=policies.get, reason=reason_name)


def ports_of(
    pods: Endpoints, ipcache: Ipcache, endpoints: TableSubscriber[EndpointKey, Endpoint]
) -> Callable[[int, bytes], tuple[tuple[str, str, int], ...]]:
    """Return how this node knows what a pod names its ports: by the id of a local one, or by its
    address.
    """

    def ports(number: int, address: bytes) -> tuple[tuple[str, str, int], ...]:
        pod = pods.get(EndpointId(number)) if number else None
        if pod is not None:
            return pod.named_ports
        key = ipcache.owner(unpacked(address))
        row = endpoints.rows(ENDPOINTS.shard(key)).get(key) if key is not None else None
        return row.named_ports if row is not None else ()

    return ports


def reason_name(reason: int) -> str:
    """Return the name of a drop's reason in lower case with dashes."""
    try:
        return DropReason(reason).name.lower().replace("_", "-")
    except ValueError:
        return f"reason-{reason}"
