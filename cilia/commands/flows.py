"""``cilia flows``: the distinct flows that were recorded."""

import argparse
from dataclasses import dataclass

from cilia.commands.arguments import Nouns, add_output, command, parse_since
from cilia.commands.output import print_json, print_table
from cilia.commands.policy.recorded import add_addresses, fetch_flows, moment
from cilia.commands.session import Session, with_session
from cilia.contracts.direction import Direction
from cilia.contracts.flows import ListFlows, PolicyVerdict, RecordedFlow, RecordedPeer
from cilia.policy.observed.recorded import name_of


@dataclass(frozen=True, slots=True)
class Filter:
    """What the recorder doesn't filter."""

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
        "who talked to whom: the distinct flows of the cluster, with counts and times",
        "  cilia flows --namespace shop\n  cilia flows --verdict denied --since 1h\n"
        "  cilia flows --to shop/db --port 5432/TCP\n  cilia flows -o json > flows.json\n",
    )
    parser.add_argument("--namespace", default="", help="of either end")
    parser.add_argument("--workload", default="", metavar="NAMESPACE/NAME", help="of either end")
    parser.add_argument("--from", dest="source", metavar="NAME", help="workload, address or entity that asks")
    parser.add_argument("--to", dest="destination", metavar="NAME", help="workload, address or entity that is asked")
    parser.add_argument("--port", help="80/TCP, 8/ICMP, or 80")
    parser.add_argument(
        "--verdict",
        type=PolicyVerdict,
        choices=tuple(PolicyVerdict),
        metavar="{allowed,denied,audited}",
        help="what became of it",
    )
    parser.add_argument("--since", type=parse_since, default=0, metavar="AGE", help="seen since: 24h, 7d, or a time")
    add_output(parser)


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the record."""
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
        moment(flow.first_ns),
        moment(flow.last_ns),
    )


def _is_named(end: RecordedPeer, name: str | None) -> bool:
    return name in (None, end.workload, end.address, name_of(end))
