"""``cilia node``: the nodes of the cluster."""

import argparse
import time

from cilia.commands.arguments import Nouns, add_output, command, noun
from cilia.commands.output import format_age, join_addresses, note, print_json, print_table
from cilia.commands.session import Session, with_session
from cilia.contracts.ids import NodeName
from cilia.contracts.ipam import UnregisterNode
from cilia.contracts.messages import Revised
from cilia.contracts.tables import Node, Staleness


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "node", "the nodes of the cluster")
    add_output(command(verbs, "list", with_session(show), "all nodes", "  cilia node list -o json\n"))
    delete = command(
        verbs,
        "delete",
        with_session(remove),
        "remove a node that will not return, with its blocks and endpoints",
        "  cilia node delete node3\n",
    )
    delete.add_argument("name", metavar="NODE", help="name of a stale node")
    delete.add_argument("--force", action="store_true", help="also one whose agent is heard, which then registers anew")


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the table of nodes, and which of them are silent."""
    nodes, stale = await session.nodes(), await session.stale_nodes()
    if arguments.output == "json":
        print_json([_fields(node, stale.get(node.name)) for node in nodes])
        return
    rows = [
        (
            node.name,
            describe(stale.get(node.name), time.time_ns()),
            join_addresses(node.ipv4, node.ipv6),
            ",".join(node.pod_cidrs),
            ",".join(node.labels),
        )
        for node in nodes
    ]
    print_table(("node", "heartbeat", "address", "pod cidrs", "labels"), rows, empty="no nodes")


def describe(staleness: Staleness | None, now_ns: int) -> str:
    """Return whether a node is heard, or for how long it has not been."""
    return "heard" if staleness is None else f"stale for {format_age((now_ns - staleness.since_ns) / 1e9)}"


def _fields(node: Node, staleness: Staleness | None) -> dict[str, object]:
    fields: dict[str, object] = {field: getattr(node, field) for field in node.__struct_fields__}
    return fields | {"stale_since_ns": staleness.since_ns if staleness else 0}


async def remove(arguments: argparse.Namespace, session: Session) -> None:
    """Remove a node."""
    request = UnregisterNode(NodeName(arguments.name), only_stale=not arguments.force)
    await session.request("ipam", "unregister", request, Revised)
    note(f"node {arguments.name} is removed")
