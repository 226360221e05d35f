"""``cilia policy history``, ``rollback`` and ``blame``: revisions, authors, and the way back."""

import argparse
import getpass

from cilia.commands.arguments import Nouns, add_dry_run, add_output, command, parse_count
from cilia.commands.output import format_time, print_json, print_table
from cilia.commands.policy.changes import add_wait, diff, report_change
from cilia.commands.policy.explain import describe_explanation
from cilia.commands.session import CHANGE_SECONDS, Session, with_session
from cilia.contracts.explanations import ExplainFlow, PeerSelector
from cilia.contracts.history import Blamed, HistoryQuery, HistoryRow, Origin, PolicyHistory, RollbackPolicies
from cilia.contracts.ids import Revision


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    history = command(
        verbs,
        "history",
        with_session(show_history),
        "revisions of policy, the newest first; one of them with its diff",
        "  cilia policy history\n"
        "  cilia policy history 4711\n"
        "  cilia policy history --policy CiliumNetworkPolicy/shop/web\n",
    )
    history.add_argument("revision", type=int, nargs="?", default=0, help="show this one, with its diff")
    history.add_argument("--policy", default="", metavar="KEY", help="kind/namespace/name: only what changed it")
    history.add_argument("--limit", type=parse_count, default=20, help="how many (default %(default)s)")
    add_output(history)
    rollback = command(
        verbs,
        "rollback",
        with_session(roll_back),
        "make all policies what they were at a revision, in one transaction",
        "  cilia policy rollback 4711 --dry-run\n  cilia policy rollback 4711 --wait\n",
    )
    rollback.add_argument("revision", type=int, help="as printed by 'history' and by 'apply'")
    add_dry_run(rollback)
    add_wait(rollback)
    add_output(rollback)
    blame = command(
        verbs,
        "blame",
        with_session(show_blame),
        "the revisions and authors of the rules that decide a flow",
        "  cilia policy blame shop/web shop/db 5432/TCP\n",
    )
    blame.add_argument("source", help="pod as namespace/name, identity, entity or address")
    blame.add_argument("destination", help="pod as namespace/name, identity, entity or address")
    blame.add_argument("port", help="80/TCP, a name of the destination's, or 8/ICMP")
    add_output(blame)


async def show_history(arguments: argparse.Namespace, session: Session) -> None:
    """Print the list, or one revision."""
    brief = arguments.output == "table" and not arguments.revision
    query = HistoryQuery(arguments.policy, Revision(arguments.revision), arguments.limit, brief)
    history = await session.request("policy", "history", query, PolicyHistory, timeout=CHANGE_SECONDS)
    if arguments.output == "json":
        print_json(history)
    elif arguments.revision:
        for row in history.rows:
            print(_headline(row))
            for step in row.change.steps:
                print("".join(diff(step.key, step.before, step.after)), end="")
    else:
        columns = ("revision", "time", "author", "cause", "policies")
        print_table(columns, [_cells(row) for row in history.rows], empty="no revisions")


async def roll_back(arguments: argparse.Namespace, session: Session) -> int:
    """Make all policies what they were at a revision."""
    request = RollbackPolicies(Revision(arguments.revision), getpass.getuser(), arguments.dry_run)
    return await report_change(arguments, session, await session.change("rollback", request))


async def show_blame(arguments: argparse.Namespace, session: Session) -> None:
    """Print the rules that decide a flow, and the revisions behind them."""
    request = ExplainFlow(PeerSelector(arguments.source), PeerSelector(arguments.destination), arguments.port)
    blamed = await session.request("policy", "blame", request, Blamed)
    if arguments.output == "json":
        print_json(blamed)
        return
    print(next(describe_explanation(blamed.explained)))
    rows = [(origin.policy, origin.rule or "(isolates)", *_origin_cells(origin)) for origin in blamed.origins]
    print_table(("policy", "rule", "revision", "time", "author", "cause"), rows, empty="no policy has a say in it")


def _origin_cells(origin: Origin) -> tuple[object, ...]:
    return _cells(origin.row)[:4] if origin.row is not None else ("before the history", "-", "-", "-")


def _cells(row: HistoryRow) -> tuple[object, ...]:
    keys = [step.key for step in row.change.steps]
    shown = keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
    return row.revision, format_time(row.change.applied_ns), row.change.author or "-", row.change.cause, shown


def _headline(row: HistoryRow) -> str:
    change = row.change
    return f"revision {row.revision}, {format_time(change.applied_ns)}, {change.author or 'unknown'}: {change.cause}"
