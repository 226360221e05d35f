"""``cilia policy apply``, ``delete`` and ``wait``: changes of policies, and their realisation."""

import argparse
import getpass

from cilia.commands.arguments import (
    Nouns,
    add_allow_unenforced,
    add_dry_run,
    add_namespace,
    add_output,
    add_seconds,
    command,
)
from cilia.commands.policy.changes import add_wait, find_key, report_change, wait_in_force
from cilia.commands.policy.files import read_all
from cilia.commands.session import Session, with_session
from cilia.contracts.ids import Revision
from cilia.contracts.policies import ApplyPolicies, DeletePolicies
from cilia.contracts.tables import POLICIES
from cilia.telemetry import TelemetryConfig, open_telemetry, span


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
    apply = command(
        verbs,
        "apply",
        with_session(apply_policies),
        "store policies, all or none of them",
        "  cilia policy apply -f policy.yaml --wait\n"
        "  cilia policy apply -f examples/shop\n"
        "  kubectl get cnp -o yaml | cilia policy apply -f -\n",
    )
    apply.add_argument(
        "-f", "--file", dest="files", action="append", required=True, help="file, directory or -; repeatable"
    )
    add_namespace(apply)
    add_dry_run(apply)
    add_allow_unenforced(apply)
    apply.add_argument(
        "--shadow",
        action="store_true",
        help="put them in shadow: they change nothing, and report the verdicts that they would give",
    )
    add_wait(apply)
    _add_otlp(apply)
    add_output(apply)
    delete = command(
        verbs,
        "delete",
        with_session(delete_policies),
        "remove policies",
        "  cilia policy delete shop/allow-web --wait\n",
    )
    delete.add_argument("names", nargs="+", metavar="NAME", help="namespace/name, or kind/namespace/name")
    add_wait(delete)
    _add_otlp(delete)
    add_output(delete)
    wait = command(
        verbs, "wait", with_session(wait_realised), "wait until a revision is in force", "  cilia policy wait 4711\n"
    )
    wait.add_argument("revision", type=int, nargs="?", default=0, help="as printed by apply (default: the newest)")
    add_seconds(wait, "--timeout", 10.0, "give up after (default %(default)s)")
    add_output(wait)


def _add_otlp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--otlp", metavar="URL", default="", help="trace the change into this OTLP/HTTP collector")


async def apply_policies(arguments: argparse.Namespace, session: Session) -> int:
    """Store policies."""
    text, source = read_all(arguments.files)
    request = ApplyPolicies(
        text,
        source,
        arguments.namespace,
        author=getpass.getuser(),
        dry_run=arguments.dry_run,
        allow_unenforced=arguments.allow_unenforced,
        shadow=arguments.shadow,
    )
    with open_telemetry(TelemetryConfig(otlp_endpoint=arguments.otlp), "cli"), span("policy apply"):
        changed = await session.change("apply", request)
        return await report_change(arguments, session, changed)


async def delete_policies(arguments: argparse.Namespace, session: Session) -> int:
    """Remove policies."""
    known = await session.read(POLICIES)
    keys = tuple(find_key(known, name) for name in arguments.names)
    request = DeletePolicies(keys, author=getpass.getuser())
    with open_telemetry(TelemetryConfig(otlp_endpoint=arguments.otlp), "cli"), span("policy delete"):
        changed = await session.change("delete", request)
        return await report_change(arguments, session, changed)


async def wait_realised(arguments: argparse.Namespace, session: Session) -> int:
    """Wait for a revision."""
    return await wait_in_force(arguments, session, Revision(arguments.revision))
