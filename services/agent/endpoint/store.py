"""Store of this node's pods: a record of each on disk, and all of them by id, name and identity.

A record is written before the kernel is touched and removed after it was cleaned, so that a
restarted agent knows of every link that may exist. Owner: the endpoint loop; others read.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import EndpointId, Identity
from services.agent.address import number
from services.agent.errors import NameTaken, NoEndpointId, UnknownEndpoint
from services.agent.node.pool import Addresses

LAST_ID: Final = 65_535
UNALLOCATED: Final = Identity(0)


class Pod(Struct, frozen=True, kw_only=True):
    """A local endpoint, as it is kept on disk."""

    id: EndpointId
    namespace: str
    name: str
    netns: str
    interface: str
    host_interface: str
    mac: str
    ipv4: str
    gateway: str
    labels: tuple[str, ...]
    """Security labels, sorted."""
    named_ports: tuple[tuple[str, str, int], ...] = ()
    identity: Identity = UNALLOCATED
    ifindex: int = 0
    """Index of the host's end of the link; 0 until the link exists."""
    disconnecting: bool = False
    audit: bool = False
    """Would-be drops by policy are let through and reported."""
    ipv6: str = ""
    """IPv6 address; this or ``ipv4`` is empty where the pod has none of that family."""
    gateway_ipv6: str = ""
    netns_inode: int = 0
    """Number of its network namespace; 0: not known."""

    @property
    def addresses(self) -> Addresses:
        """The pod's address of each family."""
        return Addresses(self.ipv4, self.ipv6)

    @property
    def gateways(self) -> tuple[tuple[str, str], ...]:
        """(its address, the gateway) of each family that it has."""
        both = (self.ipv4, self.gateway), (self.ipv6, self.gateway_ipv6)
        return tuple((address, gateway) for address, gateway in both if address)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The pod's addresses as the maps have them."""
        return tuple(number(address) for address in self.addresses if address)

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class Endpoints:
    """All pods of this node, in memory."""

    def __init__(self, pods: Iterable[Pod] = ()) -> None:
        self._pods: dict[EndpointId, Pod] = {pod.id: pod for pod in pods}
        self._ids = {pod.full_name: pod.id for pod in self._pods.values()}
        self._last_id = max(self._pods, default=0)
        self._reserved: set[EndpointId] = set()

    def __len__(self) -> int:
        return len(self._pods)

    def __iter__(self) -> Iterator[Pod]:
        return iter(sorted(self._pods.values(), key=lambda pod: pod.id))

    def get(self, endpoint: EndpointId) -> Pod | None:
        """Return the pod with this id."""
        return self._pods.get(endpoint)

    def named(self, namespace: str, name: str) -> Pod | None:
        """Return the pod of this name."""
        number = self._ids.get(f"{namespace}/{name}")
        return None if number is None else self._pods[number]

    def find(self, reference: EndpointReference) -> Pod:
        """Return the pod that a request means.

        Raises:
            UnknownEndpoint: There is none.
        """
        if reference.id:
            pod, field, value = self.get(reference.id), "id", str(reference.id)
        else:
            pod = self.named(reference.namespace, reference.name)
            field, value = "name", f"{reference.namespace}/{reference.name}"
        if pod is None:
            raise UnknownEndpoint(field, value)
        return pod

    def with_identity(self, identity: Identity) -> tuple[Pod, ...]:
        """Return the pods of one identity."""
        return tuple(pod for pod in self._pods.values() if pod.identity == identity)

    def identities(self) -> frozenset[Identity]:
        """Return the identities that live here."""
        return frozenset(pod.identity for pod in self._pods.values() if pod.identity)

    def devices(self) -> dict[int, str]:
        """Return the host's ends of the links of pods that aren't disconnecting: index -> name."""
        return {pod.ifindex: pod.host_interface for pod in self if pod.ifindex and not pod.disconnecting}

    def next_id(self) -> EndpointId:
        """Return an id that has been unused for long.

        Raises:
            NoEndpointId: All are in use.
        """
        for step in range(1, LAST_ID + 1):
            number = EndpointId((self._last_id + step - 1) % LAST_ID + 1)
            if number not in self._pods and number not in self._reserved:
                self._last_id = number
                return number
        raise NoEndpointId(LAST_ID)

    def reserve(self, endpoint: EndpointId) -> None:
        """Keep an id from new pods: the cluster still has a row of it."""
        self._reserved.add(endpoint)

    def free(self, endpoint: EndpointId) -> None:
        """Let new pods have a reserved id."""
        self._reserved.discard(endpoint)

    def put(self, pod: Pod) -> None:
        """Add a pod, or replace what is known of it.

        Raises:
            NameTaken: Another pod has its name.
        """
        other = self._ids.get(pod.full_name)
        if other is not None and other != pod.id:
            raise NameTaken(pod.full_name, self._pods[other].netns)
        self._pods[pod.id] = pod
        self._ids[pod.full_name] = pod.id

    def remove(self, endpoint: EndpointId) -> None:
        """Forget a pod."""
        pod = self._pods.pop(endpoint, None)
        if pod is not None:
            del self._ids[pod.full_name]


class PodFiles:
    """One small JSON file per pod, replaced by rename."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def save(self, pod: Pod) -> None:
        """Keep a pod, instead of what was kept of it before."""
        path = self._path(pod.id)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(pod), indent=1))
        os.replace(fresh, path)

    def remove(self, endpoint: EndpointId) -> None:
        """Keep a pod no longer."""
        self._path(endpoint).unlink(missing_ok=True)

    def load(self) -> list[Pod]:
        """Return all pods that are kept.

        Raises:
            msgspec.DecodeError: A file isn't one of ours.
        """
        decode = msgspec.json.Decoder(Pod).decode
        return [decode(path.read_bytes()) for path in sorted(self._directory.glob("*.json"))]

    def _path(self, endpoint: EndpointId) -> Path:
        return self._directory / f"{endpoint}.json"
