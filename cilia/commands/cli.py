"""``cilia``: the command line. Parses, dispatches, turns failures into one line and an exit code."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Final

from cilia.errors import Failure

_NOUNS: Final = ("status", "node", "endpoint", "identity", "ip", "policy", "map", "monitor", "cluster")
_EXAMPLES: Final = """
examples:
  cilia cluster up --nodes 3               a cluster on this machine
  cilia status                             is all of it well?
  cilia policy apply -f examples/ --wait   policies, in force everywhere when it returns
  cilia monitor --drops                    what is dropped, and why
  cilia endpoint list -o json              everything prints JSON too

exit codes: 0 done, 1 refused or failed, 2 wrong usage or input, 3 no answer in time
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="cilia",
        description="Networking, security and observability for containers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cilia {metadata.version('cilia')}")
    parser.add_argument(
        "--cluster", metavar="NAME", help="which local cluster (default: $CILIA_CLUSTER, or the only one)"
    )
    parser.add_argument("--nats", metavar="URL", help="connect to this bus instead of a local cluster's")
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    for noun in _NOUNS:
        import_module(f"cilia.commands.{noun}").add_parser(nouns)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    try:
        return int(arguments.run(arguments) or 0)
    except Failure as failure:
        print(f"cilia: {failure}", file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
