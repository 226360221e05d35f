"""``cilia``: the command line; a failure is one line on stderr and an exit code."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from cilia.errors import Failure

_NOUNS: Final = (
    "status",
    "node",
    "endpoint",
    "identity",
    "ip",
    "policy",
    "map",
    "monitor",
    "flows",
    "cluster",
    "version",
)
_EXAMPLES: Final = """
examples:
  cilia cluster up --nodes 3               a cluster on this machine
  cilia status                             is all of it well?
  cilia policy apply -f examples/shop --wait
                                           policies, in force everywhere when it returns
  cilia policy explain --from a --to b --port 80   why it is allowed or denied
  cilia monitor --drops                    what is dropped, and why
  cilia endpoint list -o json              everything prints JSON too

exit codes: 0 done, 1 refused or failed, 2 wrong usage or input, 3 no answer in time
"""


def build_parser(nouns: Sequence[str] = _NOUNS) -> argparse.ArgumentParser:
    """Return the parser of the command with some nouns, or all; each costs the imports it uses."""
    parser = argparse.ArgumentParser(
        prog="cilia",
        description="Networking, security and observability for containers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_globals(parser)
    verbs = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    for noun in nouns:
        import_module(f"cilia.commands.{noun}").add_parser(verbs)
    return parser


def _add_globals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", metavar="NAME", help="which local cluster (default: $CILIA_CLUSTER, or the only one)"
    )
    parser.add_argument("--nats", metavar="URL", help="connect to this bus instead of a local cluster's")


def _nouns_in(argv: Sequence[str]) -> Sequence[str]:
    """Return the one noun that a command line is about; all of them where that isn't clear."""
    scout = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    _add_globals(scout)
    scout.add_argument("rest", nargs=argparse.REMAINDER)
    try:
        rest = scout.parse_known_args(argv)[0].rest
    except argparse.ArgumentError:
        return _NOUNS
    return rest[:1] if rest[:1] and rest[0] in _NOUNS else _NOUNS


def _end_on_sigterm(number: int, frame: Any) -> NoReturn:
    """Leave as on an error, so that what was begun is removed."""
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = build_parser(_nouns_in(argv)).parse_args(argv)
    signal.signal(signal.SIGTERM, _end_on_sigterm)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    try:
        code = int(arguments.run(arguments) or 0)
        sys.stdout.flush()
        return code
    except Failure as failure:
        print(f"cilia: {failure}", file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:
        # The reader, such as head, has enough. What is left in the buffer goes nowhere, or the exit
        # would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
