"""``cilia policy generate``: least-privilege policies out of recorded flows."""

import argparse

import yaml

from cilia.commands.arguments import Nouns, add_output, command, parse_count
from cilia.commands.output import note, print_json
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.recorded import Recorded, add_recorded, with_recorded
from cilia.contracts.labels import BadLabel, parse_labels
from cilia.policy.observed.proof import Proof, generate
from cilia.policy.observed.proposal import WorkloadFilter


def add_verbs(verbs: Nouns) -> None:
    """Add the verb."""
    parser = command(
        verbs,
        "generate",
        with_recorded(run),
        "policies that allow what was recorded as allowed, and nothing else",
        "  cilia policy generate --from-flows --namespace shop > shop.yaml\n"
        "  cilia policy generate --from-flows --workload shop/db --since 7d\n"
        "  cilia policy generate --from-flows --labels app=web --flows flows.json    (needs no cluster)\n\n"
        "exit codes: 0 exact, 1 an allowed flow can't be kept or more is opened than was seen, 2 wrong input\n",
    )
    parser.add_argument("--from-flows", action="store_true", required=True, help="from what was recorded")
    parser.add_argument("--namespace", default="", help="for the workloads of this namespace")
    parser.add_argument("--workload", default="", metavar="NAMESPACE/NAME", help="for this workload")
    parser.add_argument("--labels", default="", metavar="KEY=VALUE,...", help="for workloads with these labels")
    parser.add_argument(
        "--most-addresses",
        type=parse_count,
        default=16,
        help="prefixes outside of the cluster that a rule lists; more become the entity world (default %(default)s)",
    )
    add_recorded(parser, policies=False)
    add_output(parser)


def run(arguments: argparse.Namespace, recorded: Recorded) -> int:
    """Propose policies and prove them."""
    try:
        labels = parse_labels(filter(None, arguments.labels.split(",")))
    except BadLabel as error:
        raise BadInput("--labels", str(error)) from error
    wanted = WorkloadFilter(arguments.namespace, arguments.workload, labels)
    proposal = generate(recorded.observed, wanted, max_prefixes=arguments.most_addresses)
    if not proposal.policies:
        raise BadInput("policy generate", "no recorded allowed flow of such a workload")
    if arguments.output == "json":
        print_json(proposal)
    else:
        print(yaml.safe_dump_all(proposal.policies, sort_keys=False), end="")
    _note(proposal.proof)
    return int(not proposal.proof.is_exact)


def _note(proof: Proof) -> None:
    note(
        f"proven by the engine: {proof.kept} sides of recorded allowed flows stay allowed, "
        f"{proof.refused} others that were tried are denied"
    )
    for lost in proof.lost:
        note(f"NOT KEPT: {lost.source} -> {lost.destination} {lost.port} ({lost.side})")
    for opened in proof.opened:
        note(f"OPENED: {opened.source} -> {opened.destination} {opened.port} ({opened.side})")
    if proof.opened_count > len(proof.opened):
        note(f"and {proof.opened_count - len(proof.opened)} more")
