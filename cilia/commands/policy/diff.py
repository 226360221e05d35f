"""``cilia policy diff`` and ``unused``: effect of a change on recorded flows, and idle rules."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from cilia.commands.arguments import Nouns, add_namespace, add_output, command
from cilia.commands.output import format_time, note, print_json, print_table
from cilia.commands.policy.changes import find_key
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.recorded import Recorded, add_recorded, read_policies, with_recorded
from cilia.policy.observed.comparison import FlowChange, PolicyDiff, change_policies, compare
from cilia.policy.observed.judge import FlowJudge
from cilia.policy.observed.usage import use_rules


class FailOn(StrEnum):
    """Changes of verdicts for which ``policy diff`` exits with 1."""

    DENIED = "denied"
    ALLOWED = "allowed"
    ANY = "any"
    NEVER = "never"

    def is_met(self, found: PolicyDiff) -> bool:
        """Tell whether a difference has such a change."""
        match self:
            case FailOn.DENIED:
                return bool(found.newly_denied)
            case FailOn.ALLOWED:
                return bool(found.newly_allowed)
            case FailOn.ANY:
                return bool(found.newly_denied or found.newly_allowed)
            case FailOn.NEVER:
                return False
            case _:
                assert_never(self)


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    diff = command(
        verbs,
        "diff",
        with_recorded(run_diff),
        "the recorded flows whose verdict a change of policies would change",
        "  cilia policy diff -f new.yaml\n"
        "  cilia policy diff --delete shop/db --delete shop/web\n"
        "  cilia policy diff --flows flows.json --policies now/ -f new.yaml    (needs no cluster)\n\n"
        "exit codes: 0 nothing that --fail-on names, 1 some flow's verdict changes so, 2 wrong input\n",
    )
    diff.add_argument("-f", "--file", dest="files", action="append", default=[], help="policies; repeatable, or -")
    add_namespace(diff)
    diff.add_argument("--delete", action="append", default=[], metavar="NAME", help="policy to remove; repeatable")
    diff.add_argument(
        "--fail-on",
        type=FailOn,
        choices=tuple(FailOn),
        default=FailOn.DENIED,
        metavar="{denied,allowed,any,never}",
        help="newly so judged flows for which the exit code is 1 (default %(default)s)",
    )
    add_recorded(diff)
    add_output(diff)
    unused = command(
        verbs,
        "unused",
        with_recorded(run_unused),
        "rules that no recorded flow has hit, and the last hit of the others",
        "  cilia policy unused\n  cilia policy unused --since 7d --fail\n"
        "  cilia policy unused --flows flows.json --policies now/    (needs no cluster)\n",
    )
    unused.add_argument("--fail", action="store_true", help="exit code 1 if there is one")
    add_recorded(unused)
    add_output(unused)


def run_diff(arguments: argparse.Namespace, recorded: Recorded) -> int:
    """Judge the recorded flows before and after."""
    if not arguments.files and not arguments.delete:
        raise BadInput("policy diff", "name new policies by -f, or policies to remove by --delete")
    if recorded.policies is None and arguments.delete:
        raise BadInput("--delete", "with --flows, name the policies in force by --policies")
    puts = read_policies(arguments.files, namespace=arguments.namespace) if arguments.files else {}
    removes = [find_key(recorded.policies or {}, name) for name in arguments.delete]
    before = None if recorded.policies is None else FlowJudge(recorded.in_force.values(), recorded.options)
    policies = change_policies(recorded.in_force, (replace(put, shadow=False) for put in puts.values()), removes)
    after = FlowJudge(policies, recorded.options)
    found = compare(recorded.observed, before, after)
    if arguments.output == "json":
        print_json(found)
    else:
        print_diff(found)
    return int(arguments.fail_on.is_met(found))


def print_diff(found: PolicyDiff) -> None:
    """Print a difference for people."""
    columns = ("verdict", "source", "destination", "port", "count", "first seen", "last seen", "because of")
    rows = [("newly denied", *_cells(change)) for change in found.newly_denied]
    rows += [("newly allowed", *_cells(change)) for change in found.newly_allowed]
    print_table(columns, rows, empty="no recorded flow changes its verdict")
    note(
        f"{len(found.newly_denied)} flows newly denied, {len(found.newly_allowed)} newly allowed; unchanged: "
        f"{found.still_allowed.flows} allowed ({found.still_allowed.count} times), "
        f"{found.still_denied.flows} denied ({found.still_denied.count} times)"
    )


def _cells(change: FlowChange) -> tuple[object, ...]:
    because = [f"{path.policy} {path.rule}" for path in change.rules] or [
        f"{key} (default deny)" for key in change.isolated_by
    ]
    return (
        change.source,
        change.destination,
        f"{change.port}/{change.protocol}",
        change.count,
        format_time(change.first_ns),
        format_time(change.last_ns),
        _first(because) or "no policy isolates any more",
    )


def _first(texts: Iterable[str]) -> str:
    found = list(texts)
    return f"{found[0]} and {len(found) - 1} more" if len(found) > 1 else "".join(found)


def run_unused(arguments: argparse.Namespace, recorded: Recorded) -> int:
    """Print the rules with their last hits; exit code 1 with ``--fail`` if one has none."""
    if recorded.policies is None:
        raise BadInput("--flows", "name the policies in force by --policies")
    uses = use_rules(FlowJudge(recorded.in_force.values(), recorded.options), recorded.observed)
    unused = [use for use in uses if not use.flows]
    if arguments.output == "json":
        print_json({"unused": unused, "used": [use for use in uses if use.flows]})
    else:
        ordered = sorted(uses, key=lambda use: (use.last_ns, use.policy, use.rule))
        rows = [(use.policy, use.rule, use.flows, use.count, format_time(use.last_ns)) for use in ordered]
        print_table(("policy", "rule", "flows", "count", "last hit"), rows, empty="no rules")
        note(f"{len(unused)} of {len(uses)} rules unused")
    return int(arguments.fail and bool(unused))
