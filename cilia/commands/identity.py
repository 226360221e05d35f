"""``cilia identity``: label sets and their numbers."""

import argparse

from cilia.commands.arguments import Nouns, add_output, command, noun
from cilia.commands.output import print_json, print_table
from cilia.commands.session import Session, with_session
from cilia.contracts.identities import Reserved, is_reserved
from cilia.contracts.ids import Identity
from cilia.contracts.tables import IDENTITIES, IdentityRow
from cilia.errors import Failure


class NoSuchIdentity(Failure):
    """Error of a number that no label set has."""

    def __init__(self, identity: int) -> None:
        super().__init__(f"no identity {identity}; 'cilia identity list' shows them")


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "identity", "security identities: label sets and their numbers")
    add_output(command(verbs, "list", with_session(show), "all identities", "  cilia identity list -o json\n"))
    get = command(verbs, "get", with_session(show_one), "one identity", "  cilia identity get 4711\n")
    get.add_argument("identity", type=int, help="its number")
    add_output(get)


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the table of identities, the reserved ones first."""
    _print(arguments, await _read(session))


async def show_one(arguments: argparse.Namespace, session: Session) -> None:
    """Print one identity."""
    rows = await _read(session)
    if arguments.identity not in rows:
        raise NoSuchIdentity(arguments.identity)
    _print(arguments, {arguments.identity: rows[arguments.identity]})


async def _read(session: Session) -> dict[Identity, IdentityRow]:
    reserved = {Identity(each.value): IdentityRow((each.label,)) for each in Reserved}
    return reserved | await session.read(IDENTITIES)


def _print(arguments: argparse.Namespace, rows: dict[Identity, IdentityRow]) -> None:
    ordered = sorted(rows.items())
    if arguments.output == "json":
        print_json(
            [{"identity": number, "labels": row.labels, "reserved": is_reserved(number)} for number, row in ordered]
        )
    else:
        print_table(
            ("identity", "labels"), [(number, " ".join(row.labels)) for number, row in ordered], empty="no identities"
        )
