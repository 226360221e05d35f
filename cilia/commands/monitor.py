"""``cilia monitor``: flow events of the nodes' kernels, as they happen."""

import argparse
import asyncio
from datetime import datetime

from cilia.commands.arguments import Nouns, add_output, add_seconds, command, parse_count
from cilia.commands.output import note, print_json_line
from cilia.commands.session import Session, with_session
from cilia.contracts.flow_events import Flow, FlowBatch, FlowVerdict


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    parser = command(
        nouns,
        "monitor",
        with_session(show),
        "flows as they happen: the verdict on each new one, and every drop",
        "  cilia monitor --drops\n  cilia monitor --endpoint shop/web --count 10 -o json\n"
        "  cilia monitor --from shop/web --to shop/db --timeout 30\n",
    )
    parser.add_argument("--node", default="*", help="only this node's")
    parser.add_argument("--drops", action="store_true", help="only what is dropped")
    parser.add_argument("--audited", action="store_true", help="only what an audit let through")
    parser.add_argument("--endpoint", metavar="NAMESPACE/NAME", help="only what it sends or receives")
    parser.add_argument("--from", dest="source", metavar="NAMESPACE/NAME", help="only what it sends")
    parser.add_argument("--to", dest="destination", metavar="NAMESPACE/NAME", help="only what it receives")
    parser.add_argument("--count", type=parse_count, help="end after so many")
    add_seconds(parser, "--timeout", None, "end after so long; exit code 3 if --count is not reached")
    add_output(parser)


async def show(arguments: argparse.Namespace, session: Session) -> int:
    """Print flows until told to stop."""
    try:
        async with asyncio.timeout(arguments.timeout):
            await _print(arguments, session)
    except TimeoutError:
        return 3 if arguments.count else 0
    return 0


async def _print(arguments: argparse.Namespace, session: Session) -> None:
    shown = 0
    async for batch in session.listen(session.bus.subjects.flow(arguments.node), FlowBatch):
        if batch.lost:
            note(f"{batch.node}: {batch.lost} events lost")
        if batch.limited:
            note(f"{batch.node}: {batch.limited} events above the limit of their pod or node")
        for flow in batch.flows:
            if not is_wanted(arguments, flow):
                continue
            if arguments.output == "json":
                print_json_line(flow)
            else:
                print(describe_flow(flow), flush=True)
            shown += 1
            if shown == arguments.count:
                return


def is_wanted(arguments: argparse.Namespace, flow: Flow) -> bool:
    """Tell whether a flow passes all filters of a command line."""
    verdicts = {FlowVerdict.DROPPED: arguments.drops, FlowVerdict.AUDIT: arguments.audited}
    if any(verdicts.values()) and not verdicts.get(flow.verdict):
        return False
    return (
        arguments.endpoint in (None, flow.source_endpoint, flow.destination_endpoint)
        and arguments.source in (None, flow.source_endpoint)
        and arguments.destination in (None, flow.destination_endpoint)
    )


def describe_flow(flow: Flow) -> str:
    """Return a flow as one line for people."""
    clock = datetime.fromtimestamp(flow.time_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    ports = (0, 0) if flow.protocol.startswith("icmp") else (flow.source_port, flow.destination_port)
    source = _describe_peer(flow.source_endpoint, flow.source, ports[0], flow.source_identity)
    destination = _describe_peer(flow.destination_endpoint, flow.destination, ports[1], flow.destination_identity)
    details = ", ".join(filter(None, (flow.direction, flow.reason, flow.policy)))
    verdict = f"{flow.verdict.upper()} ({details})" if details else flow.verdict.upper()
    return f"{clock} {flow.node}: {source} -> {destination} {flow.protocol} {verdict}"


def _describe_peer(name: str, address: str, port: int, identity: int) -> str:
    if not name and port and ":" in address:
        address = f"[{address}]"
    return f"{name or address}{f':{port}' if port else ''} [{identity}]"
