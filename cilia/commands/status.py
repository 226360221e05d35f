"""``cilia status``: health of the nodes of a cluster."""

import argparse
import asyncio
import time

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import describe_staleness, join_addresses, note, print_json, print_table
from cilia.commands.session import Session, with_session
from cilia.contracts.agent import AgentState, AgentStatus, LoopName
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty
from cilia.errors import Refused, Unavailable


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    parser = command(
        nouns,
        "status",
        with_session(show),
        "health of every node, as its agent sees it",
        "  cilia status\n  cilia status -o json\n",
    )
    add_output(parser)


async def show(arguments: argparse.Namespace, session: Session) -> int:
    """Ask every agent; exit code 1 if one is not ready."""
    nodes, stale = await session.nodes(), await session.stale_nodes()
    answers = await asyncio.gather(*(_ask(session, node.name) for node in nodes))
    if arguments.output == "json":
        print_json({node.name: answer for node, answer in zip(nodes, answers, strict=True)})
    else:
        columns = ("node", "state", "address", "pod cidrs", "endpoints", "memory", "up", "tables")
        print_table(
            columns, [_row(node.name, answer) for node, answer in zip(nodes, answers, strict=True)], empty="no nodes"
        )
        for name, staleness in sorted(stale.items()):
            note(describe_staleness(name, staleness, time.time_ns()))
        for answer in answers:
            note_repairs(answer)
            note_unreported(answer)
            note_crowded(answer)
            note_defences_off(answer)
    return 0 if all(isinstance(answer, AgentStatus) and answer.state is AgentState.READY for answer in answers) else 1


async def _ask(session: Session, node: NodeName) -> AgentStatus | str:
    try:
        return await session.ask_node(node, "status", Empty(), AgentStatus, timeout=3.0)
    except (Unavailable, Refused) as error:
        return str(error)


def note_repairs(answer: AgentStatus | str) -> None:
    """Print the foreign changes that an agent has repaired in its kernel since it started."""
    if isinstance(answer, str):
        return
    for loop in answer.loops:
        if loop.name is LoopName.DRIFT and loop.failures:
            changes = f"{loop.failures} foreign changes in its kernel, repaired"
            note(f"{answer.node}: {changes}; the last: {loop.last_error}")


def note_unreported(answer: AgentStatus | str) -> None:
    """Print how many events of packets nobody has seen since an agent's programs count them."""
    if isinstance(answer, str):
        return
    for loop in answer.loops:
        if loop.name is LoopName.FLOWS and loop.failures:
            note(f"{answer.node}: {loop.failures} events were not shown: {loop.last_error}")


def note_crowded(answer: AgentStatus | str) -> None:
    """Print which endpoints hold their share of flows, so that new ones of theirs are dropped."""
    if isinstance(answer, str):
        return
    for loop in answer.loops:
        if loop.name is LoopName.FLOW_QUOTA and loop.pending:
            note(f"{answer.node}: {loop.last_error}: has its share of flows, and new ones only as others end")


def note_defences_off(answer: AgentStatus | str) -> None:
    """Print which defences a node is without, since its kernel is too old for them."""
    if not isinstance(answer, str):
        for defence in answer.defences_off:
            note(f"{answer.node}: defence off: {defence}")


def _row(node: NodeName, answer: AgentStatus | str) -> tuple[object, ...]:
    if isinstance(answer, str):
        return (node, "unreachable", answer, "", "", "", "", "")
    complete = sum(table.complete for table in answer.tables)
    return (
        node,
        answer.state,
        join_addresses(answer.ipv4, answer.ipv6),
        ",".join(answer.pod_cidrs),
        f"{answer.endpoints_ready}/{answer.endpoints}",
        f"{answer.rss_bytes / 1e6:.0f} MB",
        f"{answer.uptime_seconds:.0f}s",
        f"{complete}/{len(answer.tables)} complete",
    )
