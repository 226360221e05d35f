"""``cilia policy shadow`` and ``promote``: the verdicts that policies in shadow would give."""

import argparse
import getpass

from cilia.commands.arguments import Nouns, add_allow_unenforced, add_dry_run, add_output, command, parse_count
from cilia.commands.output import print_json, print_json_line, print_table
from cilia.commands.policy.changes import add_wait, find_key, report_change
from cilia.commands.policy.diff import print_diff
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.recorded import Recorded, add_recorded, with_recorded
from cilia.commands.session import Session, with_session
from cilia.contracts.flows import ShadowVerdict, ShadowVerdicts
from cilia.contracts.policies import ApplyPolicies
from cilia.contracts.tables import POLICIES, PolicyObject
from cilia.policy.language.parse import decode_object, put_in_shadow
from cilia.policy.observed.comparison import FlowChange, change_policies, compare
from cilia.policy.observed.flows import name_of
from cilia.policy.observed.judge import FlowJudge


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    shadow = command(
        verbs,
        "shadow",
        run_shadow,
        "the verdicts that policies in shadow would give: on recorded flows, or as they happen",
        "  cilia policy apply -f new.yaml --shadow\n  cilia policy shadow\n  cilia policy shadow shop/new\n"
        "  cilia policy shadow --follow\n  cilia policy promote shop/new --wait\n",
    )
    shadow.add_argument("name", nargs="?", help="namespace/name, or kind/namespace/name: its flows one by one")
    shadow.add_argument("--follow", action="store_true", help="print verdicts as they are published")
    shadow.add_argument("--count", type=parse_count, help="with --follow: end after so many")
    add_recorded(shadow)
    add_output(shadow)
    promote = command(
        verbs,
        "promote",
        with_session(run_promote),
        "put a policy in force that was in shadow",
        "  cilia policy promote shop/new --wait\n",
    )
    promote.add_argument("name", help="namespace/name, or kind/namespace/name")
    add_dry_run(promote)
    add_allow_unenforced(promote)
    add_wait(promote)
    add_output(promote)


def is_shadow(row: PolicyObject) -> bool:
    """Tell whether a stored policy is in shadow."""
    return decode_object(row).policy.shadow


def run_shadow(arguments: argparse.Namespace) -> int | None:
    """Show the verdicts of recorded flows, or follow new ones."""
    if not arguments.follow:
        return with_recorded(show)(arguments)
    if arguments.flows:
        raise BadInput("--follow", "follows a running cluster, not a file")
    return with_session(follow)(arguments)


def show(arguments: argparse.Namespace, recorded: Recorded) -> None:
    """Judge the recorded flows with each policy in shadow put in force."""
    shadows = recorded.shadows
    if arguments.name:
        key = find_key(shadows, arguments.name)
        shadows = {key: shadows[key]}
    before, observed = FlowJudge(recorded.in_force.values(), recorded.options), recorded.observed
    found = {
        key: compare(observed, before, FlowJudge(change_policies(recorded.in_force, [policy], ()), recorded.options))
        for key, policy in sorted(shadows.items())
    }
    if arguments.output == "json":
        print_json(found)
    elif arguments.name:
        print_diff(next(iter(found.values())))
    else:
        columns = ("policy in shadow", "would deny", "times", "would allow", "times")
        rows = [
            (
                key,
                len(each.newly_denied),
                _times(each.newly_denied),
                len(each.newly_allowed),
                _times(each.newly_allowed),
            )
            for key, each in found.items()
        ]
        print_table(columns, rows, empty="no policy is in shadow")


def _times(changes: tuple[FlowChange, ...]) -> int:
    return sum(change.count for change in changes)


async def follow(arguments: argparse.Namespace, session: Session) -> None:
    """Print verdicts of policies in shadow as the recorder publishes them."""
    key = find_key(await session.read(POLICIES), arguments.name) if arguments.name else ""
    shown = 0
    async for report in session.listen(session.bus.subjects.shadow(), ShadowVerdicts):
        for verdict in report.verdicts:
            if key and key not in verdict.policies:
                continue
            if arguments.output == "json":
                print_json_line(verdict)
            else:
                print(describe_verdict(verdict), flush=True)
            shown += 1
            if shown == arguments.count:
                return


def describe_verdict(verdict: ShadowVerdict) -> str:
    """Return a shadow verdict as one line for people."""
    flow = verdict.flow
    now, then = ("ALLOWED" if allowed else "DENIED" for allowed in (verdict.allowed, verdict.would_be))
    would = "as before" if now == then else f"would be {then}"
    peers = f"{name_of(flow.source)} -> {name_of(flow.destination)} {flow.port}/{flow.protocol}"
    return f"{peers} {now}, {would}, {flow.count} times: {', '.join(verdict.policies)}"


async def run_promote(arguments: argparse.Namespace, session: Session) -> int:
    """Put a policy in force by taking its annotation away."""
    known = await session.read(POLICIES)
    key = find_key(known, arguments.name)
    parsed = decode_object(known[key])
    if not parsed.policy.shadow:
        raise BadInput(key, "is in force; only a policy in shadow can be promoted")
    request = ApplyPolicies(
        put_in_shadow(parsed, False).document,
        f"promote {key}",
        known[key].namespace or "default",
        author=getpass.getuser(),
        dry_run=arguments.dry_run,
        allow_unenforced=arguments.allow_unenforced,
    )
    return await report_change(arguments, session, await session.change("apply", request))
