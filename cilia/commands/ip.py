"""``cilia ip``: addresses in use and their owners."""

import argparse

from cilia.commands.arguments import Nouns, add_output, command, noun
from cilia.commands.output import print_json, print_table
from cilia.commands.session import Session, with_session


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "ip", "addresses and their owners")
    add_output(command(verbs, "list", with_session(show), "all addresses in use", "  cilia ip list\n"))


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the addresses of nodes and endpoints."""
    rows: list[dict[str, object]] = [
        {"address": address, "owner": node.name, "kind": "node", "identity": 0, "node": node.name}
        for node in await session.nodes()
        for address in (node.ipv4, node.ipv6)
        if address
    ]
    for endpoint in await session.endpoints():
        owner = f"{endpoint.namespace}/{endpoint.name}"
        for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
            rows.append(
                {
                    "address": address,
                    "owner": owner,
                    "kind": "endpoint",
                    "identity": endpoint.identity,
                    "node": endpoint.node,
                }
            )
    if arguments.output == "json":
        print_json(rows)
    else:
        columns = ("address", "owner", "kind", "identity", "node")
        print_table(columns, [[row[column] or "-" for column in columns] for row in rows], empty="no addresses in use")
