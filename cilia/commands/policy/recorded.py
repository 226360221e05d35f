"""Recorded flows and the policies in force, of a running cluster or from files."""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

from cilia.commands.arguments import add_since
from cilia.commands.output import format_time, note, note_if_slow
from cilia.commands.policy.files import read_all, read_file
from cilia.commands.policy.verdicts import exit_on_policy_errors
from cilia.commands.session import Session, open_session
from cilia.contracts.flows import FlowPage, ListFlows, RecordedFlow, RecordedPeer
from cilia.contracts.tables import ENDPOINTS, IDENTITIES, POLICIES
from cilia.errors import Unavailable
from cilia.policy.engine.options import Options
from cilia.policy.engine.rules import Policy
from cilia.policy.language.parse import decode_object, parse_policies
from cilia.policy.observed.flows import ObservedFlow, gather
from cilia.policy.observed.proposal import collapse
from cilia.policy.observed.record import read_flows

PAGE: Final = 1000
TAKE_OVER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded flows, and the policies to judge them by.

    Attributes:
        policies: Policies by key; None where none were given: the recorded verdicts stand for them.
        options: Options of the engine, with the enforcement mode of the cluster.
    """

    flows: list[RecordedFlow]
    policies: Mapping[str, Policy] | None
    options: Options = field(default_factory=Options)

    @property
    def in_force(self) -> dict[str, Policy]:
        """The policies that are not in shadow."""
        return {key: policy for key, policy in (self.policies or {}).items() if not policy.shadow}

    @property
    def shadows(self) -> dict[str, Policy]:
        """The policies in shadow, as they would be in force."""
        found = (self.policies or {}).items()
        return {key: replace(policy, shadow=False) for key, policy in found if policy.shadow}

    @property
    def observed(self) -> list[ObservedFlow]:
        """The flows, with those of the same peers and port joined."""
        return gather(self.flows)


def add_recorded(parser: argparse.ArgumentParser, *, policies: bool = True) -> None:
    """Add the arguments that say which flows, and which policies are in force."""
    parser.add_argument(
        "--flows", metavar="FILE", help="recorded flows as 'cilia flows -o json' prints them, instead of a cluster's"
    )
    if policies:
        parser.add_argument(
            "--policies",
            action="append",
            default=[],
            metavar="FILE",
            help="with --flows: the policies in force; file or directory, repeatable",
        )
    add_since(parser)


def with_recorded(
    run: Callable[[argparse.Namespace, Recorded], int | None],
) -> Callable[[argparse.Namespace], int | None]:
    """Have a command run on recorded flows, from files if it names them, otherwise from a running
    cluster.
    """

    def command(arguments: argparse.Namespace) -> int | None:
        recorded = _from_files(arguments) if arguments.flows else asyncio.run(_from_cluster(arguments))
        return run(arguments, recorded)

    return exit_on_policy_errors(command)


def _from_files(arguments: argparse.Namespace) -> Recorded:
    flows = [flow for flow in read_flows(read_file(arguments.flows), arguments.flows) if _is_since(arguments, flow)]
    files = getattr(arguments, "policies", [])
    return Recorded(flows, read_policies(files) if files else None)


def _is_since(arguments: argparse.Namespace, flow: RecordedFlow) -> bool:
    return bool(flow.last_ns >= arguments.since)


async def _from_cluster(arguments: argparse.Namespace) -> Recorded:
    async with open_session(arguments) as session:
        rows = await session.read(POLICIES)
        flows = await add_addresses(session, await fetch_flows(session, ListFlows(since_ns=arguments.since)))
        parsed = {key: decode_object(row) for key, row in rows.items()}
        modes = [each.enforcement.mode for each in parsed.values() if each.enforcement is not None]
        options = Options(mode=modes[0]) if modes else Options()
        return Recorded(flows, {key: each.policy for key, each in parsed.items()}, options)


async def fetch_flows(session: Session, query: ListFlows) -> list[RecordedFlow]:
    """Return all recorded flows that match a query; a note says how many the record misses."""
    found: list[RecordedFlow] = []
    query = structs.replace(query, limit=PAGE)
    while True:
        page = await _ask(session, query)
        found += page.flows
        if not page.next:
            break
        query = structs.replace(query, after=page.next)
    missed = f"; {page.evicted} had to make room, and are missing" if page.evicted else ""
    note(f"{len(found)} distinct flows, recorded since {format_time(page.since_ns)}{missed}")
    return found


async def add_addresses(session: Session, flows: list[RecordedFlow]) -> list[RecordedFlow]:
    """Return flows with the addresses of all pods that have a peer's labels, for an ``ipBlock``."""
    labels = {identity: row.labels for identity, row in (await session.read(IDENTITIES)).items()}
    addresses: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in (await session.read(ENDPOINTS)).values():
        addresses[labels.get(row.identity, ())].update(filter(None, (row.ipv4, row.ipv6)))
    prefixes = {key: tuple(map(str, collapse(some))) for key, some in addresses.items() if key}

    def completed(peer: RecordedPeer) -> RecordedPeer:
        return structs.replace(peer, prefixes=prefixes[peer.labels]) if peer.labels in prefixes else peer

    return [
        structs.replace(flow, source=completed(flow.source), destination=completed(flow.destination)) for flow in flows
    ]


async def _ask(session: Session, query: ListFlows) -> FlowPage:
    """Ask for a page, and again while a replica takes over from another that died."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TAKE_OVER_SECONDS
    with note_if_slow("waiting for the recorder"):
        while True:
            try:
                return await session.request("recorder", "flows", query, FlowPage)
            except Unavailable:
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(0.2)


def read_policies(files: list[str], *, namespace: str = "default") -> dict[str, Policy]:
    """Read policies from files, those included that can't be enforced yet.

    Raises:
        BadPolicy: One is wrong.
    """
    text, source = read_all(files)
    parsed = parse_policies(text, source=source, namespace=namespace, allow_unenforced=True)
    return {each.key: each.policy for each in parsed}
