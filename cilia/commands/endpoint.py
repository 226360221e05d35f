"""``cilia endpoint``: the pods that are connected."""

import argparse

from cilia.commands.arguments import Nouns, add_node, add_output, add_pairs, command, noun
from cilia.commands.output import note, print_json, print_table
from cilia.commands.session import Session, with_session
from cilia.contracts.agent import AuditEndpoint, CreateEndpoint, EndpointReference, LocalEndpoint, RelabelEndpoint
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Empty


def add_parser(nouns: Nouns) -> None:
    """Add the noun."""
    verbs = noun(nouns, "endpoint", "the pods that are connected")
    add_output(command(verbs, "list", with_session(show), "all endpoints", "  cilia endpoint list -o json\n"))
    get = command(
        verbs,
        "get",
        with_session(show_one),
        "one endpoint, with all that its node knows of it",
        "  cilia endpoint get shop/web\n",
    )
    _add_name(get)
    add_output(get)
    create = command(
        verbs,
        "create",
        with_session(create_endpoint),
        "connect a network namespace on a node",
        "  cilia endpoint create --node node1 shop/web --netns /run/netns/web -l app=web\n",
    )
    add_node(create, "node on whose machine the network namespace is")
    create.add_argument("name", help="namespace/name, or a name in 'default'")
    create.add_argument("--netns", required=True, metavar="PATH", help="its network namespace")
    _add_labels(create)
    add_output(create)
    relabel = command(
        verbs,
        "relabel",
        with_session(relabel_endpoint),
        "give an endpoint other labels",
        "  cilia endpoint relabel shop/web -l app=web -l tier=canary\n",
    )
    _add_name(relabel)
    _add_labels(relabel)
    add_output(relabel)
    audit = command(
        verbs,
        "audit",
        with_session(audit_endpoint),
        "let what policy would drop of an endpoint's packets through, and report it",
        "  cilia endpoint audit shop/web on\n  cilia monitor --audited\n",
    )
    _add_name(audit)
    audit.add_argument("state", choices=("on", "off"), help="begin or end it")
    add_output(audit)
    delete = command(
        verbs, "delete", with_session(delete_endpoint), "disconnect an endpoint", "  cilia endpoint delete shop/web\n"
    )
    _add_name(delete)


async def show(arguments: argparse.Namespace, session: Session) -> None:
    """Print the table of endpoints."""
    endpoints = await session.endpoints()
    if arguments.output == "json":
        print_json(endpoints)
        return
    rows = [
        (f"{each.namespace}/{each.name}", each.ipv4 or "-", each.ipv6 or "-", each.identity, each.node, each.id)
        for each in endpoints
    ]
    print_table(("endpoint", "ipv4", "ipv6", "identity", "node", "id"), rows, empty="no endpoints")


async def show_one(arguments: argparse.Namespace, session: Session) -> None:
    """Print one endpoint as its node knows it."""
    node, reference = await session.find_endpoint(arguments.name)
    _print(arguments, await session.ask_node(node, "endpoint-get", reference, LocalEndpoint))


async def create_endpoint(arguments: argparse.Namespace, session: Session) -> None:
    """Connect a network namespace."""
    namespace, _, name = arguments.name.rpartition("/")
    request = CreateEndpoint(
        namespace or "default", name, arguments.netns, dict(arguments.labels), dict(arguments.namespace_labels)
    )
    _print(arguments, await session.ask_node(NodeName(arguments.node), "endpoint-create", request, LocalEndpoint))


async def relabel_endpoint(arguments: argparse.Namespace, session: Session) -> None:
    """Replace an endpoint's labels."""
    node, reference = await session.find_endpoint(arguments.name)
    request = RelabelEndpoint(reference, dict(arguments.labels), dict(arguments.namespace_labels))
    _print(arguments, await session.ask_node(node, "endpoint-relabel", request, LocalEndpoint))


async def audit_endpoint(arguments: argparse.Namespace, session: Session) -> None:
    """Begin or end an endpoint's audit."""
    node, reference = await session.find_endpoint(arguments.name)
    request = AuditEndpoint(reference, arguments.state == "on")
    _print(arguments, await session.ask_node(node, "endpoint-audit", request, LocalEndpoint))


async def delete_endpoint(arguments: argparse.Namespace, session: Session) -> None:
    """Disconnect an endpoint."""
    node, reference = await session.find_endpoint(arguments.name)
    await session.ask_node(node, "endpoint-delete", EndpointReference(id=reference.id), Empty)
    note(f"endpoint {arguments.name} deleted")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="namespace/name, a name in 'default', or node/id")


def _add_labels(parser: argparse.ArgumentParser) -> None:
    add_pairs(parser, "-l", "--label", to="labels", summary="label of the endpoint; repeatable")
    add_pairs(parser, "--namespace-label", to="namespace_labels", summary="label of its namespace; repeatable")


def _print(arguments: argparse.Namespace, endpoint: LocalEndpoint) -> None:
    if arguments.output == "json":
        print_json(endpoint)
        return
    for field in endpoint.__struct_fields__:
        value = getattr(endpoint, field)
        print(f"{field.replace('_', ' ') + ':':18}{' '.join(value) if isinstance(value, tuple) else value}")
