"""``cilia policy shadow`` and ``promote``: policies that tell what they would do before they do it."""

import argparse
import asyncio
import getpass

import msgspec

from cilia.commands.arguments import Nouns, add_output, command, parse_count
from cilia.commands.output import note, print_json, print_table
from cilia.commands.policy.changes import add_wait, conclude, find_key
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.recorded import Record, add_record, with_record
from cilia.commands.policy.whatif import print_diff
from cilia.commands.session import Session, with_session
from cilia.contracts.flows import ShadowVerdict, ShadowVerdicts
from cilia.contracts.policies import ApplyPolicies
from cilia.contracts.tables import POLICIES, PolicyObject
from cilia.policy.language.parse import decode_object, put_in_shadow
from cilia.policy.observed.recorded import name_of
from cilia.policy.simulate.whatif import FlowChange, RecordedFlowJudge, change_policies, compare

_BATCHES = 64


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    shadow = command(
        verbs,
        "shadow",
        run_shadow,
        "what policies in shadow would do: on the record, or as it happens",
        "  cilia policy apply -f new.yaml --shadow\n  cilia policy shadow\n  cilia policy shadow shop/new\n"
        "  cilia policy shadow --follow\n  cilia policy promote shop/new --wait\n",
    )
    shadow.add_argument("name", nargs="?", help="namespace/name, or kind/namespace/name: its flows one by one")
    shadow.add_argument("--follow", action="store_true", help="print verdicts as they are published")
    shadow.add_argument("--count", type=parse_count, help="with --follow: end after so many")
    add_record(shadow)
    add_output(shadow)
    promote = command(
        verbs,
        "promote",
        with_session(run_promote),
        "put a policy in force that was in shadow",
        "  cilia policy promote shop/new --wait\n",
    )
    promote.add_argument("name", help="namespace/name, or kind/namespace/name")
    promote.add_argument("--dry-run", action="store_true", help="only show what would change")
    promote.add_argument("--allow-unenforced", action="store_true", help="also with what can't be enforced yet")
    add_wait(promote)
    add_output(promote)


def is_shadow(row: PolicyObject) -> bool:
    """Tell whether a stored policy is in shadow."""
    return decode_object(row).policy.shadow


def run_shadow(arguments: argparse.Namespace) -> int | None:
    """Show what shadows would do."""
    if not arguments.follow:
        return with_record(show)(arguments)
    if arguments.flows:
        raise BadInput("--follow", "follows a running cluster, not a file")
    return with_session(follow)(arguments)


def show(arguments: argparse.Namespace, record: Record) -> None:
    """Judge the record with each policy in shadow put in force."""
    shadows = record.shadows
    if arguments.name:
        key = find_key(shadows, arguments.name)
        shadows = {key: shadows[key]}
    before, talks = RecordedFlowJudge(record.in_force.values(), record.options), record.talks
    found = {
        key: compare(talks, before, RecordedFlowJudge(change_policies(record.in_force, [policy], ()), record.options))
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
    arrived: asyncio.Queue[ShadowVerdicts] = asyncio.Queue(_BATCHES)
    decoder = msgspec.json.Decoder(ShadowVerdicts)

    async def deliver(message: object) -> None:
        await arrived.put(decoder.decode(message.data))  # type: ignore[attr-defined]

    await session.bus.subscribe(session.bus.subjects.shadow(), deliver)
    await session.bus.flush()
    note("listening; ^C ends")
    shown = 0
    while True:
        for verdict in (await arrived.get()).verdicts:
            if key and key not in verdict.policies:
                continue
            is_json = arguments.output == "json"
            print(msgspec.json.encode(verdict).decode() if is_json else describe(verdict), flush=True)
            shown += 1
            if shown == arguments.count:
                return


def describe(verdict: ShadowVerdict) -> str:
    """Return a verdict as one line for people."""
    flow = verdict.flow
    words = {True: "ALLOWED", False: "DENIED"}
    would = f"would be {words[verdict.would_be]}" if verdict.allowed != verdict.would_be else "as before"
    ends = f"{name_of(flow.source)} -> {name_of(flow.destination)} {flow.port}/{flow.protocol}"
    return f"{ends} {words[verdict.allowed]}, {would}, {flow.count} times: {', '.join(verdict.policies)}"


async def run_promote(arguments: argparse.Namespace, session: Session) -> int:
    """Take the annotation away."""
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
    return await conclude(arguments, session, await session.change("apply", request))
