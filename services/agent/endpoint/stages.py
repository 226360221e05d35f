"""Stages of an endpoint's life, pure: what a request makes of it, and what a restart finds.

::

    create   record -+-> link, programs ----+-> slot, cilia_endpoints, ipcache -> policy in force
                     +-> row, identity -----+
    delete   cilia_endpoints, ipcache -> link, flows -> row withdrawn -> address, record

The record on disk brackets everything: what has one may exist in the kernel, what has none doesn't.
A pod whose slot isn't realised has all of its packets dropped.
"""

from collections.abc import Mapping
from enum import Enum, auto

from cilia.contracts.agent import CreateEndpoint, EndpointState
from cilia.contracts.ids import EndpointId
from cilia.contracts.labels import parse_labels, workload
from cilia.errors import Unavailable
from services.agent.endpoint.store import Pod
from services.agent.endpoint.veth import PodLink
from services.agent.errors import NameTaken
from services.agent.node.pool import Addresses


class Restoration(Enum):
    """Treatment of a recorded endpoint by a restarted agent."""

    KEEP = auto()
    """The link is there: what is in force stays in force."""
    CONNECT = auto()
    """The link is gone, after a reboot: make it anew if the pod is still there."""
    DISCONNECT = auto()
    """A former agent had begun to disconnect it."""


def restoration(pod: Pod, ifindex: int) -> Restoration:
    """Decide what becomes of a recorded endpoint.

    Args:
        ifindex: Index of the device that has the name of its host's end; 0: none.
    """
    if pod.disconnecting:
        return Restoration.DISCONNECT
    return Restoration.KEEP if ifindex and ifindex == pod.ifindex else Restoration.CONNECT


def state_of(pod: Pod, *, in_force: bool) -> EndpointState:
    """Return an endpoint's state.

    Args:
        in_force: Some policy of its identity is in force.
    """
    if pod.disconnecting:
        return EndpointState.DISCONNECTING
    if not pod.identity:
        return EndpointState.WAITING_FOR_IDENTITY
    return EndpointState.READY if in_force else EndpointState.WAITING_FOR_POLICY


def security_labels(namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the security labels of a pod, sorted.

    Raises:
        BadLabel: A label is none.
    """
    found = tuple(sorted(map(str, workload(namespace, labels, namespace_labels))))
    parse_labels(found)
    return found


def new_pod(
    endpoint: EndpointId,
    request: CreateEndpoint,
    *,
    labels: tuple[str, ...],
    addresses: Addresses,
    gateways: Addresses,
    mac: str,
    netns_inode: int,
) -> Pod:
    """Return the record of an endpoint that is to be."""
    return Pod(
        id=endpoint,
        namespace=request.namespace,
        name=request.name,
        netns=request.netns,
        interface=request.interface,
        host_interface=f"lxc{endpoint}",
        mac=mac,
        ipv4=addresses.ipv4,
        ipv6=addresses.ipv6,
        gateway=gateways.ipv4 if addresses.ipv4 else "",
        gateway_ipv6=gateways.ipv6 if addresses.ipv6 else "",
        labels=labels,
        named_ports=request.named_ports,
        netns_inode=netns_inode,
    )


def check_repeated(pod: Pod, request: CreateEndpoint) -> None:
    """Make sure that a request means an endpoint that has its name already.

    Raises:
        Unavailable: The former one of that name isn't gone yet.
        NameTaken: It is another pod.
    """
    if pod.disconnecting:
        raise Unavailable("identity", f"the row of the former {pod.full_name} is not withdrawn yet")
    if pod.netns != request.netns or pod.interface != request.interface:
        raise NameTaken(pod.full_name, pod.netns)


def pending_step(pod: Pod) -> str:
    """Name the step that a creation which gave up was waiting for."""
    return f"the policy of identity {pod.identity}" if pod.identity else "its link and its identity"


def link_of(pod: Pod, mtu_bytes: int) -> PodLink:
    """Return how a pod is connected."""
    return PodLink(
        netns=pod.netns,
        interface=pod.interface,
        mac=pod.mac,
        gateways=pod.gateways,
        host_interface=pod.host_interface,
        mtu_bytes=mtu_bytes,
    )
