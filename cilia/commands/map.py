"""``cilia map``: BPF maps of a node and their contents."""

import argparse

from cilia.commands.arguments import Nouns, add_node, add_output, command, noun, parse_count
from cilia.commands.output import note, print_json, print_table
from cilia.commands.session import Session, with_session
from cilia.contracts.agent import MapContents, MapList, MapQuery
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "map", "BPF maps of a node")
    listing = command(verbs, "list", with_session(show), "all maps of a node", "  cilia map list --node node1\n")
    add_node(listing, "the node")
    add_output(listing)
    get = command(
        verbs, "get", with_session(show_one), "the contents of a map", "  cilia map get --node node1 cilia_ipcache\n"
    )
    add_node(get, "the node")
    get.add_argument("name", help="such as cilia_ipcache")
    get.add_argument("--limit", type=parse_count, default=1000, help="at most so many entries (default %(default)s)")
    add_output(get)


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print a node's maps."""
    maps = (await session.ask_node(NodeName(arguments.node), "map-list", Empty(), MapList)).maps
    if arguments.output == "json":
        print_json(maps)
        return
    rows = [
        (
            each.name,
            each.kind,
            "?" if each.entries < 0 else each.entries,
            each.max_entries,
            f"{each.memory_bytes / 1e6:.1f} MB",
        )
        for each in maps
    ]
    print_table(("map", "kind", "entries", "max", "memory"), rows, empty="no maps")


async def show_one(arguments: argparse.Namespace, session: Session) -> None:
    """Print a map's entries."""
    query = MapQuery(arguments.name, arguments.limit)
    contents = await session.ask_node(NodeName(arguments.node), "map-get", query, MapContents)
    if arguments.output == "json":
        print_json([{"key": key, "value": value} for key, value in contents.entries])
        return
    if contents.entries:
        key, value = contents.entries[0]
        columns = [*key, *value]
        print_table(columns, [[*key.values(), *value.values()] for key, value in contents.entries], empty="")
    else:
        note(f"{arguments.name} is empty")
    if contents.truncated:
        note(f"only the first {len(contents.entries)}: --limit shows more")
