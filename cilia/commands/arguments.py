"""Pieces of command lines that several nouns share: arguments, and how their values are read."""

import argparse
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

Nouns = Any
"""argparse's collection of subcommands, whose type has no public name."""

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Units of an age, in seconds."""


class BadPair(argparse.ArgumentTypeError):
    """Error of a text that is no ``key=value``."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not key=value")


class BadNumber(argparse.ArgumentTypeError):
    """Error of a text that is no number of the wanted kind."""

    def __init__(self, text: str, wanted: str) -> None:
        super().__init__(f"{text!r} is not {wanted}")


class BadTime(argparse.ArgumentTypeError):
    """Error of a text that is neither an age nor a point in time."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is neither an age such as 90s, 30m, 24h or 7d, nor a time such as 2026-01-31T12:00")


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


def add_node(parser: argparse.ArgumentParser, summary: str) -> None:
    """Add ``--node``, which must be given."""
    parser.add_argument("--node", required=True, metavar="NAME", help=summary)


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """Add ``-n``, the namespace of policies that name none."""
    parser.add_argument("-n", "--namespace", default="default", help="of policies that name none (default %(default)s)")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add ``--dry-run``."""
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")


def add_allow_unenforced(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-unenforced``."""
    parser.add_argument(
        "--allow-unenforced", action="store_true", help="accept fields that are not enforced yet (docs/policy.md)"
    )


def add_since(parser: argparse.ArgumentParser) -> None:
    """Add ``--since``, as Unix time in ns; 0 if it isn't given."""
    parser.add_argument(
        "--since",
        type=parse_since,
        default=0,
        metavar="AGE",
        help="only flows seen in the last 24h, 7d, or since a time such as 2026-01-31T12:00",
    )


def add_seconds(parser: argparse.ArgumentParser, option: str, default: float | None, summary: str) -> None:
    """Add an option that is a time in seconds."""
    parser.add_argument(option, type=parse_seconds, default=default, metavar="SECONDS", help=summary)


def add_pairs(parser: argparse.ArgumentParser, *options: str, to: str, summary: str) -> None:
    """Add a repeatable option of ``KEY=VALUE`` pairs, collected under the name ``to``."""
    parser.add_argument(
        *options, dest=to, metavar="KEY=VALUE", action="append", default=[], type=parse_pair, help=summary
    )


def parse_count(text: str) -> int:
    """Read a whole number above zero.

    Raises:
        BadNumber: The text is something else.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise BadNumber(text, "a whole number above 0")
    return int(text)


def parse_seconds(text: str) -> float:
    """Read a time in seconds, above zero and finite.

    Raises:
        BadNumber: The text is something else.
    """
    try:
        seconds = float(text)
    except ValueError:
        raise BadNumber(text, "a time in seconds") from None
    if not 0 < seconds < math.inf:
        raise BadNumber(text, "a time in seconds above 0")
    return seconds


def parse_since(text: str) -> int:
    """Read an age or a point in time; returns Unix time in ns.

    Raises:
        BadTime: The text is something else.
    """
    if text[:-1].isdecimal() and text[-1] in UNITS:
        return time.time_ns() - int(text[:-1]) * UNITS[text[-1]] * 1_000_000_000
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise BadTime(text) from None


def parse_pair(text: str) -> tuple[str, str]:
    """Read ``key=value``.

    Raises:
        BadPair: There is no ``=``, or no key.
    """
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise BadPair(text)
    return key, value
