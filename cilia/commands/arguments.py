"""Pieces of command lines that several nouns share."""

import argparse
from collections.abc import Callable
from typing import Any

Nouns = Any
"""argparse's collection of subcommands, whose type has no public name."""


class BadPair(argparse.ArgumentTypeError):
    """Not a ``key=value``."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not key=value")


def command(
    verbs: Nouns, name: str, run: Callable[[argparse.Namespace], int | None], summary: str, examples: str = ""
) -> argparse.ArgumentParser:
    """Add a subcommand that ``run`` carries out."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def noun(nouns: Nouns, name: str, summary: str) -> Nouns:
    """Add a noun; returns the collection of its verbs."""
    parser = nouns.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return parser.add_subparsers(dest="verb", required=True, metavar="VERB")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``-o json``."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to print the result")


def parse_pair(text: str) -> tuple[str, str]:
    """Read ``key=value``.

    Raises:
        BadPair: There is no ``=``, or no key.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise BadPair(text)
    return key, value
