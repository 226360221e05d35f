"""``cilia monitor``: flows as the kernels see them."""

import argparse
import asyncio
from datetime import datetime
from typing import Final

import msgspec

from cilia.commands.arguments import Nouns, add_output, command, parse_count, parse_seconds
from cilia.commands.output import note
from cilia.commands.session import Session, with_session
from cilia.contracts.flow_events import Flow, FlowBatch, FlowVerdict

_BATCHES: Final = 64
"""Batches that may wait to be printed; the bus holds the next ones back, and drops them in the end.
"""


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
    parser.add_argument(
        "--timeout",
        type=parse_seconds,
        metavar="SECONDS",
        help="end after so long; exit code 3 if --count is not reached",
    )
    add_output(parser)


async def show(arguments: argparse.Namespace, session: Session) -> int:
    """Print flows until told to stop."""
    arrived: asyncio.Queue[FlowBatch] = asyncio.Queue(_BATCHES)
    decoder = msgspec.json.Decoder(FlowBatch)

    async def deliver(message: object) -> None:
        await arrived.put(decoder.decode(message.data))  # type: ignore[attr-defined]

    await session.bus.subscribe(session.bus.subjects.flow(arguments.node), deliver)
    await session.bus.flush()
    note("listening; ^C ends")
    try:
        async with asyncio.timeout(arguments.timeout):
            await _print(arguments, arrived)
    except TimeoutError:
        return 3 if arguments.count else 0
    return 0


async def _print(arguments: argparse.Namespace, arrived: "asyncio.Queue[FlowBatch]") -> None:
    shown = 0
    while True:
        batch = await arrived.get()
        if batch.lost:
            note(f"{batch.node}: {batch.lost} events lost")
        for flow in batch.flows:
            if _is_wanted(arguments, flow):
                print(msgspec.json.encode(flow).decode() if arguments.output == "json" else describe(flow), flush=True)
                shown += 1
                if shown == arguments.count:
                    return


def _is_wanted(arguments: argparse.Namespace, flow: Flow) -> bool:
    asked = {FlowVerdict.DROPPED: arguments.drops, FlowVerdict.AUDIT: arguments.audited}
    if any(asked.values()) and not asked.get(flow.verdict):
        return False
    ends = (flow.source_endpoint, flow.destination_endpoint)
    return (
        arguments.endpoint in (None, *ends)
        and arguments.source in (None, flow.source_endpoint)
        and arguments.destination in (None, flow.destination_endpoint)
    )


def describe(flow: Flow) -> str:
    """Return a flow as one line for people."""
    moment = datetime.fromtimestamp(flow.time_ns / 1e9).strftime("%H:%M:%S.%f")[:-3]
    ports = (0, 0) if flow.protocol.startswith("icmp") else (flow.source_port, flow.destination_port)
    source = _end(flow.source_endpoint, flow.source, ports[0], flow.source_identity)
    destination = _end(flow.destination_endpoint, flow.destination, ports[1], flow.destination_identity)
    details = ", ".join(filter(None, (flow.direction, flow.reason, flow.policy)))
    verdict = f"{flow.verdict.upper()} ({details})" if details else flow.verdict.upper()
    return f"{moment} {flow.node}: {source} -> {destination} {flow.protocol} {verdict}"


def _end(name: str, address: str, port: int, identity: int) -> str:
    if not name and port and ":" in address:
        address = f"[{address}]"
    return f"{name or address}{f':{port}' if port else ''} [{identity}]"
