"""``cilia version``: what is installed."""

import argparse
from importlib import metadata

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import print_json


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    add_output(command(nouns, "version", show, "what is installed", "  cilia version -o json\n"))


def show(arguments: argparse.Namespace) -> None:
    """Print the version."""
    version = metadata.version("cilia")
    if arguments.output == "json":
        print_json({"cilia": version})
    else:
        print(f"cilia {version}")
