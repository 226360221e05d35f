"""``cilia node``: the nodes of the cluster."""

import argparse

from cilia.commands.arguments import Nouns, add_output, command, noun
from cilia.commands.output import join_addresses, print_json, print_table
from cilia.commands.session import Session, with_session


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "node", "the nodes of the cluster")
    add_output(command(verbs, "list", with_session(show), "all nodes", "  cilia node list -o json\n"))


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the table of nodes."""
    nodes = await session.nodes()
    if arguments.output == "json":
        print_json(nodes)
        return
    rows = [
        (node.name, join_addresses(node.ipv4, node.ipv6), ",".join(node.pod_cidrs), ",".join(node.labels))
        for node in nodes
    ]
    print_table(("node", "address", "pod cidrs", "labels"), rows, empty="no nodes")
