"""``cilia policy list`` and ``get``: stored policies, and the map entries of an endpoint."""

import argparse

import msgspec

from cilia.commands.arguments import Nouns, add_output, command
from cilia.commands.output import note, print_json, print_table
from cilia.commands.policy.changes import as_yaml, find_key
from cilia.commands.policy.files import BadInput
from cilia.commands.policy.shadow import is_shadow
from cilia.commands.session import Session, with_session
from cilia.contracts.agent import EndpointPolicy
from cilia.contracts.direction import Direction
from cilia.contracts.tables import FIRST_PEER_SET, POLICIES, PolicyEntry, policy_cookie


def add_verbs(verbs: Nouns) -> None:
    """Add the verbs."""
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
            Direction.of(rule.key.egress),
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
