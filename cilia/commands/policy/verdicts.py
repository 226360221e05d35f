"""``cilia policy verdicts``: the verdicts of all flows in a described cluster."""

import argparse
from collections.abc import Callable

from cilia.commands.arguments import Nouns, command
from cilia.commands.output import print_json
from cilia.commands.policy.files import BadInput, read_all, read_file
from cilia.errors import Failure
from cilia.policy.errors import PolicyError
from cilia.policy.simulate.cluster import DescribedCluster, build_cluster
from cilia.policy.simulate.description import read_description
from cilia.policy.simulate.verdicts import judge_all


class WrongPolicy(Failure):
    """Error in a policy or a description."""

    exit_code = 2

    def __init__(self, error: PolicyError) -> None:
        super().__init__(str(error))


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs that need no cluster."""
    judge = command(
        verbs,
        "verdicts",
        exit_on_policy_errors(print_verdicts),
        "the verdict of every flow in a described cluster, as JSON; needs no running cluster",
        "  cilia policy verdicts -f cluster.json\n"
        "  cilia policy verdicts -f cluster.yaml --policies policies/ --port 80/TCP --port dns/UDP\n",
    )
    add_description(judge)
    judge.add_argument(
        "--port", dest="ports", action="append", default=[], help="instead of the description's probes; repeatable"
    )


def add_description(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the arguments of which :func:`read_cluster` makes a cluster."""
    parser.add_argument("-f", "--file", required=required, help="description of a cluster (docs/policy.md), or -")
    add_policies(parser)


def add_policies(parser: argparse.ArgumentParser) -> None:
    """Add the policies beside a description."""
    parser.add_argument(
        "--policies", action="append", default=[], metavar="FILE", help="file or directory beside its own; repeatable"
    )


def read_cluster(arguments: argparse.Namespace) -> DescribedCluster:
    """Build the cluster that the arguments describe."""
    description = read_description(read_file(arguments.file), arguments.file)
    text = read_all(arguments.policies)[0] if arguments.policies else ""
    return build_cluster(description, source=", ".join([arguments.file, *arguments.policies]), more_policies=text)


def print_verdicts(arguments: argparse.Namespace) -> None:
    """Print all verdicts."""
    cluster = read_cluster(arguments)
    probes = tuple(arguments.ports) or cluster.description.probes
    if not probes:
        raise BadInput(arguments.file, "no probes: name ports there, or by --port 80/TCP")
    print_json({"verdicts": list(judge_all(cluster, probes))})


def exit_on_policy_errors(
    run: Callable[[argparse.Namespace], int | None],
) -> Callable[[argparse.Namespace], int | None]:
    """Make errors in policies and descriptions end a command in one line."""

    def guarded(arguments: argparse.Namespace) -> int | None:
        try:
            return run(arguments)
        except PolicyError as error:
            raise WrongPolicy(error) from error

    return guarded
