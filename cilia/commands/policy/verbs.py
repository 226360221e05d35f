"""``cilia policy``: the noun with all its verbs; those that store, remove and show policies."""

import argparse
import getpass

import msgspec

from cilia.commands.arguments import (
    Nouns,
    add_allow_unenforced,
    add_dry_run,
    add_namespace,
    add_output,
    add_seconds,
    command,
    noun,
)
from cilia.commands.output import note, print_json, print_table
from cilia.commands.policy.cases import add_verbs as add_test
from cilia.commands.policy.changes import add_wait, as_yaml, find_key, report_change, wait_in_force
from cilia.commands.policy.diff import add_verbs as add_diff
from cilia.commands.policy.explain import add_verbs as add_explain
from cilia.commands.policy.files import BadInput, read_all
from cilia.commands.policy.generate import add_verbs as add_generate
from cilia.commands.policy.history import add_verbs as add_history
from cilia.commands.policy.modes import add_verbs as add_modes
from cilia.commands.policy.shadow import add_verbs as add_shadow
from cilia.commands.policy.shadow import is_shadow
from cilia.commands.policy.verdicts import add_verbs as add_offline_verbs
from cilia.commands.policy.watch import add_verbs as add_watch
from cilia.commands.session import Session, with_session
from cilia.contracts.agent import EndpointPolicy
from cilia.contracts.ids import Revision
from cilia.contracts.policies import ApplyPolicies, DeletePolicies
from cilia.contracts.tables import FIRST_PEER_SET, POLICIES, PolicyEntry, policy_cookie
from cilia.telemetry import TelemetryConfig, open_telemetry, span


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "policy", "policies: which traffic is allowed")
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
    listing = command(verbs, "list", with_session(show), "all policies", "  cilia policy list\n")
    add_output(listing)
    get = command(
        verbs,
        "get",
        with_session(show_one),
        "one policy as it was written, or what is in force for an endpoint",
        "  cilia policy get shop/allow-web\n  cilia policy get --endpoint shop/web\n",
    )
    get.add_argument("name", nargs="?", help="namespace/name, or kind/namespace/name")
    get.add_argument("--endpoint", metavar="NAMESPACE/NAME", help="the entries that its kernel holds for it")
    add_output(get)
    wait = command(
        verbs, "wait", with_session(wait_realised), "wait until a revision is in force", "  cilia policy wait 4711\n"
    )
    wait.add_argument("revision", type=int, nargs="?", default=0, help="as printed by apply (default: the newest)")
    add_seconds(wait, "--timeout", 10.0, "give up after (default %(default)s)")
    add_output(wait)
    add_explain(verbs)
    add_history(verbs)
    add_modes(verbs)
    add_watch(verbs)
    add_offline_verbs(verbs)
    add_test(verbs)
    add_diff(verbs)
    add_generate(verbs)
    add_shadow(verbs)


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


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the table of policies."""
    rows = sorted((await session.read(POLICIES)).items())
    if arguments.output == "json":
        print_json([row for _, row in rows])
    else:
        columns = ("kind", "namespace", "name", "author", "state")
        states = ("in force", "in shadow")
        cells = [(row.kind, row.namespace or "-", row.name, row.author, states[is_shadow(row)]) for _, row in rows]
        print_table(columns, cells, empty="no policies")


async def show_one(arguments: argparse.Namespace, session: Session) -> None:
    """Print a policy's document, or an endpoint's entries."""
    if bool(arguments.name) == bool(arguments.endpoint):
        raise BadInput("policy get", "name a policy, or an endpoint by --endpoint")
    known = await session.read(POLICIES)
    if arguments.name:
        document = known[find_key(known, arguments.name)].document
        print(msgspec.json.format(document, indent=2) if arguments.output == "json" else as_yaml(document), end="")
        return
    node, reference = await session.find_endpoint(arguments.endpoint)
    policy = await session.ask_node(node, "policy-get", reference, EndpointPolicy)
    if arguments.output == "json":
        print_json(policy)
        return
    names = {policy_cookie(key): key for key in known}
    rows = [
        (
            "egress" if rule.key.egress else "ingress",
            _verdict(rule.entry),
            _peer(rule.key.identity),
            rule.key.protocol or "any",
            f"{rule.key.port}/{rule.key.port_bits}" if 0 < rule.key.port_bits < 16 else rule.key.port or "any",
            names.get(rule.entry.cookie, "-"),
        )
        for rule in sorted(policy.rules, key=lambda rule: str(rule.key))
    ]
    note(f"endpoint {arguments.endpoint}, identity {policy.identity}, revision {policy.revision}")
    print_table(
        ("direction", "verdict", "peer", "protocol", "port", "policy"), rows, empty="no entries: everything is denied"
    )


def _verdict(entry: PolicyEntry) -> str:
    if entry.peer_set:
        return f"as {_peer(entry.peer_set)}"
    return "audit" if entry.audit else "deny" if entry.deny else "allow"


def _peer(number: int) -> str:
    """Name the peer of an entry: an identity, a set of those that share entries, or any."""
    return f"set {number - FIRST_PEER_SET:x}" if number >= FIRST_PEER_SET else str(number or "any")


async def wait_realised(arguments: argparse.Namespace, session: Session) -> int:
    """Wait for a revision."""
    return await wait_in_force(arguments, session, Revision(arguments.revision))
