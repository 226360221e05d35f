"""``cilia policy explain``: explanation of a flow's verdict, and a policy that would allow it."""

import argparse
from collections.abc import Iterator
from typing import assert_never

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import print_json
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.verdicts import add_description, exit_on_policy_errors, read_cluster
from cilia.commands.session import Session, with_session
from cilia.contracts.explanations import Criterion, Explained, ExplainFlow, Mismatch, PeerSelector, Side, VerdictReason
from cilia.policy.explain.explanation import explain_flow


def add_verbs(verbs: Nouns) -> None:
    """Add the verb."""
    parser = command(
        verbs,
        "explain",
        run,
        "why a flow is allowed or denied, and what would allow it",
        "  cilia policy explain --from shop/web --to shop/db --port 5432/TCP\n"
        "  cilia policy explain --from 192.0.2.7 --to shop/web --port http/TCP\n"
        "  cilia policy explain --from-labels app=web --from-namespace lab --to shop/db --port 5432/TCP\n"
        "  cilia policy explain -f cluster.yaml --from host --to shop/db --port 8/ICMP    (needs no cluster)\n",
    )
    for side in ("from", "to"):
        peer = parser.add_mutually_exclusive_group(required=True)
        peer.add_argument(
            f"--{side}", metavar="NAME", help="pod as namespace/name, number of an identity, entity, or address"
        )
        peer.add_argument(f"--{side}-labels", metavar="KEY=VALUE,...", help="a pod that would have these labels")
        parser.add_argument(
            f"--{side}-namespace",
            metavar="NAMESPACE",
            default="default",
            help=f"namespace of --{side}-labels (default %(default)s)",
        )
    parser.add_argument("--port", required=True, help="80/TCP, a name of the destination's such as http/TCP, or 8/ICMP")
    add_description(parser, required=False)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int | None:
    """Explain in a described cluster if there is one, otherwise in a running one."""
    return (
        exit_on_policy_errors(explain_described)(arguments)
        if arguments.file
        else with_session(explain_running)(arguments)
    )


async def explain_running(arguments: argparse.Namespace, session: Session) -> None:
    """Ask the policy service."""
    if arguments.policies:
        raise BadInput("--policies", "belongs to a described cluster: name one by -f")
    _print(arguments, await session.request("policy", "explain", _request(arguments), Explained))


def explain_described(arguments: argparse.Namespace) -> None:
    """Ask the engine about a description."""
    cluster = read_cluster(arguments)
    _print(arguments, explain_flow(cluster.engine, _request(arguments), cluster))


def _request(arguments: argparse.Namespace) -> ExplainFlow:
    values = vars(arguments)

    def peer(side: str) -> PeerSelector:
        labels = tuple(filter(None, (values[f"{side}_labels"] or "").split(",")))
        return PeerSelector(values[side] or "", labels, values[f"{side}_namespace"])

    return ExplainFlow(peer("from"), peer("to"), arguments.port)


def _print(arguments: argparse.Namespace, explained: Explained) -> None:
    if arguments.output == "json":
        print_json(explained)
    else:
        print("\n".join(describe_explanation(explained)))


def describe_explanation(explained: Explained) -> Iterator[str]:
    """Yield an explanation as lines for people."""
    verdict = "ALLOWED" if explained.allowed else "DENIED"
    yield f"{explained.source} -> {explained.destination} {explained.port}/{explained.protocol}: {verdict}"
    for side in (explained.egress, explained.ingress):
        yield from _describe_side(side)


def _describe_side(side: Side) -> Iterator[str]:
    verdict = "denied, but let through by an audit" if side.audited else "allowed" if side.allowed else "denied"
    yield f"{side.direction} of {side.subject}: {verdict}{_describe_reason(side)}"
    yield from (f"    {path.policy}  {path.rule}" for path in side.rules)
    yield from (f"    {key}" for key in side.isolated_by)
    if side.allowed and not side.audited:
        return
    if side.because is VerdictReason.RULE:
        yield "  no policy can allow it while this rule stands: deny wins"
    if side.nearest:
        yield "  the rules that come nearest:"
    for near in side.nearest:
        yield f"    {near.policy}  {near.rule}"
        yield from (f"      {_describe_mismatch(item)}" for item in near.mismatches)
    if side.suggestion:
        yield "  the smallest policy that allows it on this side:"
        yield from (f"    {line}" for line in side.suggestion.splitlines())


def _describe_mismatch(item: Mismatch) -> str:
    difference = f"{item.kind.replace('-', ' ')}: wants {item.wanted}; here {item.found}"
    match item.criterion:
        case Criterion.SUBJECT | Criterion.PEER:
            return f"{item.criterion}: {difference}"
        case Criterion.PORT:
            return difference
        case _:
            assert_never(item.criterion)


def _describe_reason(side: Side) -> str:
    match side.because:
        case VerdictReason.RULE:
            return " by"
        case VerdictReason.DEFAULT_DENY:
            return f" by default: nothing allows it, and these policies isolate {side.subject}:"
        case VerdictReason.CLOSED:
            closed = f"the enforcement mode (or a pod without labels yet) closes {side.subject}"
            return f" by default: nothing allows it, and {closed}"
        case VerdictReason.OPEN:
            return f": no rule denies it, and no policy isolates {side.subject} in this direction"
        case VerdictReason.HOST:
            return ": a node always reaches its own pods"
        case VerdictReason.MODE:
            return ": enforcement is off"
        case VerdictReason.NOT_ENFORCED:
            return f": {side.subject} is no endpoint of the cluster; no policy is enforced there"
        case _:
            assert_never(side.because)
