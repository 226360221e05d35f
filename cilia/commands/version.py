"""``cilia version``: version of the installed package."""

import argparse
from importlib import metadata

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import print_json


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    add_output(command(nouns, "version", show, "version of the installed package", "  cilia version -o json\n"))


def show(arguments: argparse.Namespace) -> None:
    """Print the version."""
    version = metadata.version("cilia")
    if arguments.output == "json":
        print_json({"cilia": version})
    else:
        print(f"cilia {version}")
