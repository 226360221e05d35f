"""Names, addresses and files of a local cluster's parts. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from cilia.commands.local_clusters import STATE_FILE, state_directory
from cilia.contracts.ids import NodeName
from cilia.errors import Failure
from cilia.netns import DIRECTORY

PINS: Final = Path("/sys/fs/bpf/cilia")
HUB_ADDRESS: Final = IPv4Address("172.31.0.1")
UNDERLAY_PREFIX: Final = 16
FIRST_NODE: Final = 10
LARGEST: Final = 200
MOST_REPLICAS: Final = 5
HUB_IPV6: Final = IPv6Address("fd00:31::1")
UNDERLAY_IPV6_PREFIX: Final = 64
POOLS: Final = ("default=10.244.0.0/16/26", "default6=fd00:244::/48/64")


class Families(StrEnum):
    """IP versions of which pods have addresses; the nodes have both."""

    DUAL = "dual"
    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @property
    def pools(self) -> dict[str, str]:
        """Settings by which agents ask for pools of them."""
        return {
            "pool": "" if self is Families.IPV6 else "default",
            "pool6": "" if self is Families.IPV4 else "default6",
        }


class BadNodeCount(Failure):
    """A local cluster has 1 to 200 nodes."""

    exit_code = 2

    def __init__(self, nodes: int) -> None:
        super().__init__(f"nodes = {nodes}: a local cluster has 1 to {LARGEST}")


class BadReplicaCount(Failure):
    """Each service runs once to a few times."""

    exit_code = 2

    def __init__(self, replicas: int) -> None:
        super().__init__(f"replicas = {replicas}: a service has 1 to {MOST_REPLICAS}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of one cluster."""

    name: str

    def __post_init__(self) -> None:
        state_directory(self.name)  # refuses what is no name

    @property
    def directory(self) -> Path:
        """Records, sockets, logs and etcd's data."""
        return state_directory(self.name)

    @property
    def state_file(self) -> Path:
        """State file (:mod:`laboratory.state`)."""
        return self.directory / STATE_FILE

    @property
    def nats_config(self) -> Path:
        """Configuration of nats-server that it takes from a file only."""
        return self.directory / "nats.conf"

    @property
    def namespace_prefix(self) -> str:
        """Prefix of the names of all network namespaces of the cluster."""
        return f"cilia-{self.name}."

    @property
    def hub(self) -> str:
        """Namespace of etcd, NATS and the services."""
        return self.namespace_prefix + "hub"

    @property
    def external_host(self) -> str:
        """Namespace of the host beyond the nodes (:mod:`laboratory.external_host`)."""
        return self.namespace_prefix + "world"

    @property
    def pins(self) -> Path:
        """Directory of the pinned maps and links of each node."""
        return PINS / self.name

    @property
    def etcd(self) -> str:
        """``host:port`` of etcd."""
        return f"{HUB_ADDRESS}:2379"

    @property
    def nats(self) -> str:
        """URL of the bus."""
        return f"nats://{HUB_ADDRESS}:4222"

    def namespace(self, node: str) -> str:
        """Network namespace of a node."""
        return f"{self.namespace_prefix}{node}"

    def pod_namespace(self, namespace: str, name: str) -> str:
        """Network namespace of a pod."""
        return f"{self.namespace_prefix}pod.{namespace}.{name}"

    def log(self, process: str) -> Path:
        """Log of a process such as ``agent/node1``."""
        return self.directory / "logs" / f"{process.replace('/', '-')}.log"

    def agent_socket(self, node: str) -> Path:
        """Socket of an agent's API."""
        return self.directory / f"{node}.sock"

    def node_state(self, node: str) -> Path:
        """Directory of what an agent keeps on disk."""
        return self.directory / "state" / node


def netns_path(namespace: str) -> Path:
    """Return the path of a named network namespace."""
    return DIRECTORY / namespace


def node_names(count: int) -> tuple[NodeName, ...]:
    """Return ``node1``, ``node2``, ...

    Raises:
        BadNodeCount: The number is out of range.
    """
    if not 1 <= count <= LARGEST:
        raise BadNodeCount(count)
    return tuple(NodeName(f"node{number}") for number in range(1, count + 1))


def check_replicas(replicas: int) -> None:
    """Refuse a number of replicas that makes no sense.

    Raises:
        BadReplicaCount: The number is out of range.
    """
    if not 1 <= replicas <= MOST_REPLICAS:
        raise BadReplicaCount(replicas)


def node_addresses(index: int) -> tuple[IPv4Address, IPv6Address]:
    """Return the underlay's addresses of the node at ``index`` (from 0)."""
    return HUB_ADDRESS + FIRST_NODE + index, HUB_IPV6 + FIRST_NODE + index
