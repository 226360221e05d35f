"""``cilia policy test``: policies as code, asserted in CI without a cluster."""

import argparse

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import note, print_json
from cilia.commands.policy.explain import describe_explanation
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.verdicts import add_policies, exit_on_policy_errors, read_cluster
from cilia.policy.simulate.cases import Broken, Results, run_cases


def add_verbs(verbs: Nouns) -> None:
    """Add the verb."""
    parser = command(
        verbs,
        "test",
        exit_on_policy_errors(run),
        "assert what policies mean, without a running cluster",
        "  cilia policy test cases.yaml\n"
        "  cilia policy test cases.yaml --policies policies/ --coverage 90\n\n"
        "exit codes: 0 all hold, 1 one is broken or too few rules are covered, 2 wrong input\n",
    )
    parser.add_argument("file", help="description of a cluster with cases (docs/policy.md), or -")
    add_policies(parser)
    parser.add_argument(
        "--coverage", type=float, default=0.0, metavar="PERCENT", help="fail if the cases touch fewer rules"
    )
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run all cases."""
    cluster = read_cluster(arguments)
    if not cluster.description.cases:
        raise BadInput(arguments.file, "no cases")
    results = run_cases(cluster)
    if arguments.output == "json":
        print_json(_as_json(results))
    else:
        _print(results)
    return 1 if results.broken or results.coverage_percent < arguments.coverage else 0


def _print(results: Results) -> None:
    for broken in results.broken:
        print(f"BROKEN {broken.case}: {broken.expected} is expected")
        print("\n".join(f"  {line}" for line in _explain(broken)))
    for path in results.missed:
        print(f"not covered: {path.policy}  {path.rule}")
    hit = len(results.rules) - len(results.missed)
    note(
        f"{results.flows} flows, {len(results.broken)} broken; "
        f"{hit} of {len(results.rules)} rules covered ({results.coverage_percent:.0f} %)"
    )


def _explain(broken: Broken) -> list[str]:
    if broken.explained is None:
        return [f"{broken.source} -> {broken.destination}: it has no port {broken.port}"]
    return list(describe_explanation(broken.explained))


def _as_json(results: Results) -> dict[str, object]:
    return {
        "flows": results.flows,
        "coverage_percent": results.coverage_percent,
        "missed": results.missed,
        "broken": [
            {
                "case": broken.case,
                "source": broken.source,
                "destination": broken.destination,
                "port": broken.port,
                "expected": broken.expected,
                "explained": broken.explained,
            }
            for broken in results.broken
        ],
    }
