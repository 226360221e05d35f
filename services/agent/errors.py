"""Errors of the agent.

::

    AgentError
    +-- PoolExhausted          no free pod address on this node
    +-- UnknownBlock           an address lies in none of this node's blocks
    +-- NoEndpointId           65,535 endpoints
    +-- UnknownEndpoint        nothing lives here under that id or name
    +-- NameTaken              the pod's name belongs to another network namespace
    +-- BadField               a field of a request has an impossible value
    +-- InterfaceTaken         the pod has a device of the wanted name already
    +-- LinkFailed           the kernel refused a link, an address or a route
    +-- NoSlot                 4,095 identities live here
    +-- PolicyDoesNotFit       an identity's entries exceed what is free in cilia_policy
    +-- TooSlow                a step of a call took longer than its caller would wait

    CannotStart                (a Failure) the node's devices or programs can't be had
"""

from cilia.contracts.ids import Identity
from cilia.errors import Failure


class CannotStart(Failure):
    """The kernel refuses what the agent can't do without; pods keep what is in place."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the node's data plane can't be had: {reason}")


class AgentError(Exception):
    """Base of this package's errors."""


class PoolExhausted(AgentError):
    """Every address of the node's blocks is in use."""

    def __init__(self, blocks: tuple[str, ...], used: int, reason: str = "") -> None:
        where = ", ".join(blocks) or "no block"
        super().__init__(f"no free pod address: {used} in use of {where}{'; ' if reason else ''}{reason}")
        self.blocks = blocks
        self.used = used


class UnknownBlock(AgentError):
    """An address that an endpoint holds lies in none of the node's blocks."""

    def __init__(self, address: str, blocks: tuple[str, ...]) -> None:
        super().__init__(f"address {address} lies in none of this node's blocks ({', '.join(blocks) or 'none'})")
        self.address = address


class NoEndpointId(AgentError):
    """All endpoint ids are in use."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"all {limit} endpoint ids of this node are in use")
        self.limit = limit


class UnknownEndpoint(AgentError):
    """No endpoint of this node matches."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"no endpoint of this node has {field} {value!r}")
        self.field = field
        self.value = value


class NameTaken(AgentError):
    """Another pod already has this name."""

    def __init__(self, name: str, netns: str) -> None:
        super().__init__(f"endpoint {name} already exists in network namespace {netns}")
        self.name = name
        self.netns = netns


class BadField(AgentError):
    """A field of a request has an impossible value."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field} {value!r}: {reason}")
        self.field = field
        self.value = str(value)


class InterfaceTaken(AgentError):
    """The pod has a device of the wanted name already."""

    def __init__(self, interface: str, netns: str) -> None:
        super().__init__(f"{netns} has a device {interface!r} already")
        self.interface = interface


class LinkFailed(AgentError):
    """The kernel refused a step of connecting a pod."""

    def __init__(self, step: str, interface: str, netns: str, reason: str) -> None:
        super().__init__(f"{step} of {interface} in {netns or 'the host'}: {reason}")
        self.step = step
        self.interface = interface
        self.netns = netns


class NoSlot(AgentError):
    """More identities live here than cilia_policy_slots holds."""

    def __init__(self, identity: Identity, limit: int) -> None:
        super().__init__(f"identity {identity}: {limit} identities already live on this node")
        self.identity = identity
        self.limit = limit


class PolicyDoesNotFit(AgentError):
    """An identity's entries exceed what cilia_policy has free; its old policy stays in force."""

    def __init__(self, identity: Identity, wanted: int, free: int) -> None:
        super().__init__(f"policy of identity {identity}: {wanted} entries wanted, {free} free in cilia_policy")
        self.identity = identity
        self.wanted = wanted
        self.free = free


class TooSlow(AgentError):
    """A call gave up; what it had begun is undone."""

    def __init__(self, step: str, seconds: float) -> None:
        super().__init__(f"{step} took longer than {seconds:g} s")
        self.step = step
        self.seconds = seconds
