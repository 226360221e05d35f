"""Records of flows as text: read and checked before anything is judged by them."""

import re
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from cilia.contracts.flows import PolicyVerdict, RecordedFlow
from cilia.contracts.labels import parse_labels
from cilia.contracts.protocols import protocol_number
from cilia.policy.errors import PolicyError

_BAD_VERDICT: Final = re.compile(r"Invalid enum value (?P<value>.*) - at `\$\[(?P<flow>\d+)\]\.verdict`")
_FLOWS: Final = msgspec.json.Decoder(list[RecordedFlow])


class BadFlows(PolicyError):
    """A record of flows can't be used; says where and why."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")


def read_flows(text: str, source: str) -> list[RecordedFlow]:
    """Read recorded flows as ``cilia flows -o json`` prints them.

    Raises:
        BadFlows: It is something else, or a value makes no sense; names the flow and the field.
    """
    try:
        flows = _FLOWS.decode(text)
    except msgspec.DecodeError as error:
        raise BadFlows(source, _describe(error)) from error
    for number, flow in enumerate(flows):
        try:
            _check(flow)
        except ValueError as error:
            raise BadFlows(source, f"flow {number}: {error}") from error
    return flows


def _describe(error: msgspec.DecodeError) -> str:
    """Return what is wrong, with an unknown verdict named as other wrong fields of a flow are."""
    verdict = _BAD_VERDICT.fullmatch(str(error))
    if verdict is None:
        return str(error)
    return f"flow {verdict['flow']}: verdict: {verdict['value']} is not {', '.join(PolicyVerdict)}"


def _check(flow: RecordedFlow) -> None:
    if not 0 <= flow.port <= 65_535:
        raise ValueError(f"port: {flow.port} is not in 0..65535")
    protocol_number(flow.protocol)
    for end in (flow.source, flow.destination):
        if end.address:
            ip_address(end.address)
        elif not end.labels:
            raise ValueError("an end has neither labels nor an address")
        parse_labels(end.labels)
        for prefix in end.prefixes:
            ip_network(prefix)
