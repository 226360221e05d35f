"""Validation of requests to create an endpoint, as far as their types say nothing."""

import re
from collections.abc import Sequence
from typing import Final

from cilia.contracts.agent import CreateEndpoint
from cilia.contracts.ids import NamedPort
from cilia.contracts.protocols import TRANSPORTS
from services.agent.errors import BadField

_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_INTERFACE: Final = re.compile(r"[^/\s:]{1,15}")


def check_endpoint(request: CreateEndpoint) -> None:
    """Make sure that an endpoint may be called so.

    Raises:
        BadField: Names the field, its value, and what would be right.
    """
    if not _NAMESPACE.fullmatch(request.namespace):
        raise BadField("namespace", request.namespace, "small letters, digits and '-', at most 63 characters")
    if not _NAME.fullmatch(request.name):
        raise BadField("name", request.name, "small letters, digits, '-' and '.', at most 253 characters")
    if not _INTERFACE.fullmatch(request.interface) or request.interface in (".", "..", "lo"):
        raise BadField("interface", request.interface, "a device's name has 1 to 15 characters, no '/', ':' or space")
    if not request.netns:
        raise BadField("netns", request.netns, "the path of the pod's network namespace, such as /run/netns/web")
    if request.timeout_seconds <= 0:
        raise BadField("timeout_seconds", request.timeout_seconds, "must be above 0")
    for name, protocol, port in request.named_ports:
        if protocol.upper() not in TRANSPORTS:
            raise BadField("named_ports", f"{name}: {protocol}", f"the protocol is one of {', '.join(TRANSPORTS)}")
        if not 1 <= port <= 65_535:
            raise BadField("named_ports", f"{name}: {port}", "a port is 1 to 65535")
    _check_port_names(request.named_ports)


def _check_port_names(ports: Sequence[NamedPort]) -> None:
    """Make sure that each name means one port, as Kubernetes demands of a pod."""
    numbers: dict[tuple[str, str], int] = {}
    for name, protocol, port in ports:
        if not _PORT_NAME.fullmatch(name):
            raise BadField("named_ports", name, "small letters, digits and '-', a letter among them, at most 15")
        known = numbers.setdefault((name, protocol.upper()), port)
        if known != port:
            raise BadField("named_ports", f"{name}: {port}", f"the name is that of port {known} already")
