"""Packets that are asked about: an IP protocol and a destination port or ICMP type."""

from dataclasses import dataclass

from cilia.contracts.protocols import IpProtocol, protocol_name
from cilia.policy.errors import PolicyError


class BadPort(PolicyError):
    """A text is no port and protocol."""

    def __init__(self, text: str) -> None:
        names = ", ".join(IpProtocol.__members__)
        super().__init__(f"port {text!r}: is no port/protocol, such as 80/TCP; of {names}")


@dataclass(frozen=True, slots=True)
class Packet:
    """Packets of one IP protocol to one destination port, or of one ICMP type."""

    protocol: int
    port: int

    def __str__(self) -> str:
        return f"{self.port}/{protocol_name(self.protocol)}"


def read_port(text: str) -> tuple[str, int]:
    """Read ``port/protocol`` into the port, a number or a name, and the number of the protocol.

    Raises:
        BadPort: It is not of that form.
    """
    port, _, protocol = text.partition("/")
    number = IpProtocol.__members__.get((protocol or "TCP").upper())
    if not port or number is None or (port.isdigit() and int(port) > 65_535):
        raise BadPort(text)
    return port, int(number)
