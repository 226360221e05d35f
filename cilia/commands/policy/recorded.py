"""Recorded flows and the policies in force, as commands need them: of a running cluster, or from
files.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from msgspec import structs

from cilia.commands.arguments import parse_since
from cilia.commands.output import note, note_if_slow
from cilia.commands.policy.files import read_all, read_file
from cilia.commands.policy.verdicts import offline
from cilia.commands.session import Session, open_session
from cilia.contracts.flows import FlowPage, ListFlows, RecordedFlow, RecordedPeer
from cilia.contracts.tables import ENDPOINTS, IDENTITIES, POLICIES
from cilia.errors import Unavailable
from cilia.policy.engine.engine import Options
from cilia.policy.engine.rules import Policy
from cilia.policy.language.parse import decode_object, parse_policies
from cilia.policy.observed.proposal import collapse
from cilia.policy.observed.recorded import ObservedFlow, gather, read_flows

PAGE: Final = 1000
TAKE_OVER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """What there is to judge.

    Attributes:
        policies: By key; None where none were given: what was recorded stands for them.
        options: With the enforcement mode of the cluster.
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
    def talks(self) -> list[ObservedFlow]:
        """The flows, joined."""
        return gather(self.flows)


def add_record(parser: argparse.ArgumentParser, *, policies: bool = True) -> None:
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
    parser.add_argument(
        "--since", type=parse_since, default=0, metavar="AGE", help="only flows seen since: 24h, 7d, or a time"
    )


def with_record(run: Callable[[argparse.Namespace, Record], int | None]) -> Callable[[argparse.Namespace], int | None]:
    """Have a command run on recorded flows, from files if it names them, otherwise from a running
    cluster.
    """

    def command(arguments: argparse.Namespace) -> int | None:
        record = _from_files(arguments) if arguments.flows else asyncio.run(_from_cluster(arguments))
        return run(arguments, record)

    return offline(command)


def _from_files(arguments: argparse.Namespace) -> Record:
    flows = [flow for flow in read_flows(read_file(arguments.flows), arguments.flows) if _is_since(arguments, flow)]
    files = getattr(arguments, "policies", [])
    return Record(flows, read_policies(files) if files else None)


def _is_since(arguments: argparse.Namespace, flow: RecordedFlow) -> bool:
    return bool(flow.last_ns >= arguments.since)


async def _from_cluster(arguments: argparse.Namespace) -> Record:
    async with open_session(arguments) as session:
        rows = await session.read(POLICIES)
        flows = await add_addresses(session, await fetch_flows(session, ListFlows(since_ns=arguments.since)))
        parsed = {key: decode_object(row) for key, row in rows.items()}
        modes = [each.enforcement.mode for each in parsed.values() if each.enforcement is not None]
        options = Options(mode=modes[0]) if modes else Options()
        return Record(flows, {key: each.policy for key, each in parsed.items()}, options)


async def fetch_flows(session: Session, query: ListFlows) -> list[RecordedFlow]:
    """Return all recorded flows that a query means; what the record misses is said."""
    found: list[RecordedFlow] = []
    query = structs.replace(query, limit=PAGE)
    while True:
        page = await _ask(session, query)
        found += page.flows
        if not page.next:
            break
        query = structs.replace(query, after=page.next)
    missed = f"; {page.evicted} had to make room, and are missing" if page.evicted else ""
    note(f"{len(found)} distinct flows, recorded since {moment(page.since_ns)}{missed}")
    return found


async def add_addresses(session: Session, flows: list[RecordedFlow]) -> list[RecordedFlow]:
    """Return flows whose ends tell all addresses of the pods with their labels, as an ``ipBlock``
    asks for them.
    """
    labels = {identity: row.labels for identity, row in (await session.read(IDENTITIES)).items()}
    held: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in (await session.read(ENDPOINTS)).values():
        held[labels.get(row.identity, ())].update(filter(None, (row.ipv4, row.ipv6)))
    prefixes = {key: tuple(map(str, collapse(addresses))) for key, addresses in held.items() if key}

    def completed(end: RecordedPeer) -> RecordedPeer:
        return structs.replace(end, prefixes=prefixes[end.labels]) if end.labels in prefixes else end

    return [
        structs.replace(flow, source=completed(flow.source), destination=completed(flow.destination)) for flow in flows
    ]


async def _ask(session: Session, query: ListFlows) -> FlowPage:
    """Ask for a page; while a replica takes over from another that died, again."""
    deadline = time.monotonic() + TAKE_OVER_SECONDS
    with note_if_slow("waiting for the recorder"):
        while True:
            try:
                return await session.request("recorder", "flows", query, FlowPage)
            except Unavailable:
                if time.monotonic() > deadline:
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


def moment(unix_ns: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(unix_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S") if unix_ns else "-"
