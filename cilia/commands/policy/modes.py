"""``cilia policy mode`` and ``audit``: enforcement of policies, and audits of their denials."""

import argparse
import getpass
import json

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import print_json
from cilia.commands.policy.changes import add_wait, find_key, report_change
from cilia.commands.session import Session, with_session
from cilia.contracts.policies import ApplyPolicies
from cilia.contracts.tables import POLICIES, PolicyObject
from cilia.policy.engine.options import Mode
from cilia.policy.language.enforcement import AUDIT, KEY, Enforcement
from cilia.policy.language.parse import decode_object


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    mode = command(
        verbs,
        "mode",
        with_session(show_or_set_mode),
        "show or set when pods are denied by default: where a policy isolates them, always, or never",
        "  cilia policy mode\n  cilia policy mode always --wait\n",
    )
    mode.add_argument("mode", nargs="?", choices=[each.value for each in Mode], help="never: no policy has any effect")
    audit = command(
        verbs,
        "audit",
        with_session(set_audit),
        "let what would be denied through, and report it: in the whole cluster, or for some policies",
        "  cilia policy audit on --wait\n  cilia policy audit on shop/web shop/db\n  cilia policy audit off shop/web\n",
    )
    audit.add_argument("state", choices=("on", "off"), help="begin or end it")
    audit.add_argument("names", nargs="*", metavar="NAME", help="namespace/name, or kind/namespace/name (default: all)")
    for parser in (mode, audit):
        add_wait(parser)
        add_output(parser)


async def show_or_set_mode(arguments: argparse.Namespace, session: Session) -> int:
    """Print the mode, or change it."""
    now = enforcement_in(await session.read(POLICIES))
    if arguments.mode:
        return await _apply(arguments, session, Enforcement(Mode(arguments.mode), now.audit).document)
    if arguments.output == "json":
        print_json({"mode": now.mode.value, "audit": now.audit})
    else:
        print(f"mode {now.mode.value}, audit {'on' if now.audit else 'off'}")
    return 0


async def set_audit(arguments: argparse.Namespace, session: Session) -> int:
    """Switch the audit of the cluster, or of some policies."""
    known, audit = await session.read(POLICIES), arguments.state == "on"
    keys = [find_key(known, name) for name in arguments.names]
    documents = [annotated(known[key].document, audit=audit) for key in keys]
    if not keys:
        documents = [Enforcement(enforcement_in(known).mode, audit).document]
    return await _apply(arguments, session, "\n---\n".join(documents))


async def _apply(arguments: argparse.Namespace, session: Session, text: str) -> int:
    request = ApplyPolicies(text, "the command line", author=getpass.getuser(), allow_unenforced=True)
    return await report_change(arguments, session, await session.change("apply", request))


def enforcement_in(known: dict[str, PolicyObject]) -> Enforcement:
    """Return the enforcement that is set in the cluster; the default if nobody has set it."""
    row = known.get(KEY)
    return (decode_object(row).enforcement if row is not None else None) or Enforcement()


def annotated(document: str, *, audit: bool) -> str:
    """Return a policy's document with its audit on or off."""
    body = json.loads(document)
    body["metadata"].setdefault("annotations", {})[AUDIT] = "true" if audit else "false"
    return json.dumps(body)
