"""Changes of policies, as the commands that make them report them: plan, revision, realisation."""

import argparse
import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import unified_diff
from types import MappingProxyType

import msgspec
import yaml

from cilia.commands.arguments import add_seconds
from cilia.commands.output import format_time, note, print_json
from cilia.commands.session import Session
from cilia.contracts.ids import NodeName, Revision
from cilia.contracts.policies import NodeForecast, PoliciesChanged
from cilia.contracts.realisation import Realised, WaitRealised
from cilia.contracts.tables import Staleness
from cilia.errors import Failure, Unavailable
from cilia.metrics import percentile

SHOWN_NODES = 5
_RULE = re.compile(r".*?\b(ingress|egress)(?P<deny>Deny)?\[\d+\]")
PROGRESS_SECONDS = 1.0
"""Interval at which ``--wait`` names the nodes that are missing."""


class NoSuchPolicy(Failure):
    """Error of a name that no policy has."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no policy {name!r}; there are: {', '.join(known) or 'none'}")


class AmbiguousPolicy(Failure):
    """Error of a name that policies of several kinds have."""

    exit_code = 2

    def __init__(self, name: str, found: list[str]) -> None:
        super().__init__(f"which {name!r}? There are: {', '.join(found)}")


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add ``--wait`` and its timeout."""
    parser.add_argument("--wait", action="store_true", help="return when it is in force on every concerned node")
    add_seconds(parser, "--timeout", 10.0, "of --wait (default %(default)s)")


async def report_change(arguments: argparse.Namespace, session: Session, changed: PoliciesChanged) -> int:
    """Print the changes of policies; wait if that is wanted. Returns the exit code."""
    is_dry = getattr(arguments, "dry_run", False)
    waits = arguments.wait and not is_dry
    if arguments.output == "json" and not waits:
        print_json(changed)
    elif arguments.output == "table":
        for change in changed.changes:
            print(f"{change.action:10}{change.key}")
            print("".join(diff(change.key, change.before, change.after)), end="")
            for path in change.unenforced:
                note(f"{change.key}: {path} is not enforced yet: {describe_enforced_part(path)}")
        for line in describe_forecast(changed.forecast):
            note(line)
        note("dry run: nothing was stored" if is_dry else f"revision {changed.revision}")
    if waits:
        return await wait_in_force(arguments, session, changed.revision)
    return 0


async def wait_in_force(arguments: argparse.Namespace, session: Session, revision: Revision) -> int:
    """Wait until a revision is in force, and print on which nodes. Returns the exit code."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + arguments.timeout
    while True:
        seconds = min(PROGRESS_SECONDS, max(deadline - loop.time(), 0.0))
        request = WaitRealised(revision, seconds)
        realised = await session.request("policy", "wait", request, Realised, timeout=seconds + 5)
        if realised.complete or loop.time() >= deadline:
            break
        note(f"waiting for {', '.join(realised.stragglers) or 'the policy service to know the revision'}")
    if arguments.output == "json":
        print_json(realised)
    else:
        stale = {} if realised.complete else await _stale_nodes(session)
        note(describe_realisation(realised, stale))
    return 0 if realised.complete else 3


async def _stale_nodes(session: Session) -> dict[NodeName, Staleness]:
    try:
        return await session.stale_nodes()
    except Unavailable:  # the stragglers' names are worth more than why they are late
        return {}


def describe_realisation(realised: Realised, stale: Mapping[NodeName, Staleness] = MappingProxyType({})) -> str:
    """Return the state of a revision's realisation as one line for people.

    Args:
        stale: Nodes whose agents are silent.
    """

    def described(node: NodeName) -> str:
        silent = stale.get(node)
        return node if silent is None else f"{node} (stale since {format_time(silent.since_ns)})"

    times = sorted(node.milliseconds for node in realised.nodes)
    endpoints = sum(node.endpoints for node in realised.nodes)
    if not realised.complete:
        missing = f" on {', '.join(map(described, realised.stragglers))}" if realised.stragglers else ""
        return f"revision {realised.revision} is NOT in force yet{missing}"
    if not times:
        return f"revision {realised.revision} concerns no endpoint"
    slowest = max(realised.nodes, key=lambda node: node.milliseconds)
    return (
        f"revision {realised.revision} is in force for {endpoints} endpoints on {len(times)} nodes: "
        f"median {percentile(times, 50):.1f} ms, 99th percentile {percentile(times, 99):.1f} ms, "
        f"slowest {slowest.milliseconds:.1f} ms ({slowest.node}), "
        f"of which {realised.storing_milliseconds:.1f} ms to store it"
    )


def describe_enforced_part(path: str) -> str:
    """Return the effect that a rule has without its field that is not enforced yet."""
    rule = _RULE.match(path)
    if rule is None:
        return "its spec selects nobody" if path.endswith("nodeSelector") else "no pod has a label of this source"
    return f"{rule[0]} denies everybody on its ports" if rule["deny"] else f"{rule[0]} allows nobody"


def describe_forecast(nodes: Sequence[NodeForecast]) -> Iterator[str]:
    """Yield a line for each of the nodes whose policy maps a change fills most."""
    for node in nodes[:SHOWN_NODES]:
        share = 100 * node.peak / node.capacity
        yield (
            f"{node.node}: {node.entries:,} entries, {node.peak:,} while it changes, "
            f"of {node.capacity:,} ({share:.1f} %)"
        )
    if len(nodes) > SHOWN_NODES:
        yield f"and {len(nodes) - SHOWN_NODES} nodes that it fills less"


def diff(key: str, before: str, after: str) -> Iterator[str]:
    """Yield the lines of a unified diff of a policy's YAML."""
    return unified_diff(
        as_yaml(before).splitlines(keepends=True),
        as_yaml(after).splitlines(keepends=True),
        key if before else "/dev/null",
        key if after else "/dev/null",
    )


def as_yaml(document: str) -> str:
    """Return a policy's document as YAML; nothing for none."""
    # libyaml's writer gives the same text ten times as fast: a plan may have a thousand documents
    return str(yaml.dump(msgspec.json.decode(document), Dumper=yaml.CSafeDumper, sort_keys=False)) if document else ""


def find_key(known: Collection[str], name: str) -> str:
    """Return the one key that a user means by ``[kind/]namespace/name``.

    Raises:
        NoSuchPolicy, AmbiguousPolicy: It is none, or several.
    """
    found = [key for key in known if name in (key, key.partition("/")[2], key.partition("/")[2].removeprefix("/"))]
    if not found:
        raise NoSuchPolicy(name, sorted(known))
    if len(found) > 1:
        raise AmbiguousPolicy(name, sorted(found))
    return found[0]
