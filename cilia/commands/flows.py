"""``cilia flows``: the distinct flows that the recorder has."""

import argparse
from dataclasses import dataclass

from cilia.commands.arguments import Nouns, add_output, add_since, command
from cilia.commands.output import format_time, print_json, print_table
from cilia.commands.policy.recorded import add_addresses, fetch_flows
from cilia.commands.session import Session, with_session
from cilia.contracts.direction import Direction
from cilia.contracts.flows import ListFlows, PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.policy.observed.flows import name_of


@dataclass(frozen=True, slots=True)
class Filter:
    """Filter beyond what the recorder filters by itself."""

    source: str | None
    destination: str | None
    port: str | None

    def admits(self, flow: RecordedFlow) -> bool:
        """Tell whether a flow is wanted."""
        return (
            _is_named(flow.source, self.source)
            and _is_named(flow.destination, self.destination)
            and self.port in (None, f"{flow.port}/{flow.protocol}", str(flow.port))
        )


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    parser = command(
        nouns,
        "flows",
        with_session(show),
        "the distinct flows of the cluster: source, destination, port and verdict, with counts and times",
        "  cilia flows --namespace shop\n  cilia flows --verdict denied --since 1h\n"
        "  cilia flows --to shop/db --port 5432/TCP\n  cilia flows -o json > flows.json\n",
    )
    parser.add_argument("--namespace", default="", help="of the source or the destination")
    parser.add_argument("--workload", default="", metavar="NAMESPACE/NAME", help="of the source or the destination")
    parser.add_argument("--from", dest="source", metavar="NAME", help="source: a workload, address or entity")
    parser.add_argument("--to", dest="destination", metavar="NAME", help="destination: a workload, address or entity")
    parser.add_argument("--port", help="80/TCP, 8/ICMP, or 80")
    parser.add_argument(
        "--verdict",
        type=PolicyVerdict,
        choices=tuple(PolicyVerdict),
        metavar="{allowed,denied,audited}",
        help="only flows with this verdict",
    )
    add_since(parser)
    add_output(parser)


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the recorded flows."""
    query = ListFlows(
        namespace=arguments.namespace,
        workload=arguments.workload,
        verdict=arguments.verdict,
        since_ns=arguments.since,
    )
    wanted = Filter(arguments.source, arguments.destination, arguments.port)
    flows = [flow for flow in await fetch_flows(session, query) if wanted.admits(flow)]
    if arguments.output == "json":
        print_json(await add_addresses(session, flows))
        return
    columns = ("source", "destination", "port", "verdict", "side", "policy", "count", "first seen", "last seen")
    rows = [_cells(flow) for flow in sorted(flows, key=lambda flow: -flow.last_ns)]
    print_table(columns, rows, empty="no flows")


def _cells(flow: RecordedFlow) -> tuple[object, ...]:
    return (
        name_of(flow.source),
        name_of(flow.destination),
        f"{flow.port}/{flow.protocol}",
        flow.verdict,
        Direction.of(flow.egress),
        flow.policy or "-",
        flow.count,
        format_time(flow.first_ns),
        format_time(flow.last_ns),
    )


def _is_named(peer: RecordedPeer, name: str | None) -> bool:
    return name in (None, peer.workload, peer.address, name_of(peer))
