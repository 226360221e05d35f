"""Long random histories of policies, identities, endpoints and modes: incremental against full, and
against brute force.

``python -m tests.property.histories --steps 100000 [--seed N]`` prints what it did and how long it
took.
"""

import argparse
import random
import time
from collections.abc import Iterator

from cilia.contracts.ids import Identity
from cilia.contracts.labels import parse_labels
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import (
    EndpointsChanged,
    Event,
    IdentityPut,
    IdentityRemoved,
    ModeSet,
    PolicyPut,
    PolicyRemoved,
)
from cilia.policy.engine.options import Mode
from cilia.policy.engine.rules import (
    Block,
    NamedPort,
    Operator,
    Policy,
    PortRange,
    Requirement,
    Rule,
    Selector,
    Spec,
    cidr_label,
    parse_prefix,
    split_names,
)
from cilia.policy.engine.selectors import ContainerPort
from cilia.policy.engine.verdict import decide
from tests.property.test_policy import NAMESPACE, OUTSIDE, PODS, PREFIXES, World

HISTORY = 200
"""Steps after which everything begins anew."""
COMPARE = 10
"""Steps between two comparisons with a new engine."""
PROBES = 30
"""Flows judged by brute force at each comparison."""
VALUES = "abc"
NUMBERS = (0, 1, 79, 80, 81, 443, 1024, 65_535)
ADDRESSES = ("10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.7")


class Author:
    """Writes events by chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.pick = self._random.choice

    def some(self, most: int) -> range:
        return range(self._random.randint(0, most))

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def event(self) -> Event:
        kind = self._random.random()
        if kind < 0.35:
            return PolicyPut(self.policy())
        if kind < 0.42:
            return PolicyRemoved(f"CiliumNetworkPolicy/x/{self.pick('pqrst')}")
        if kind < 0.65:
            return IdentityPut(Identity(self.pick(PODS)), parse_labels(self.labels()))
        if kind < 0.72:
            return IdentityRemoved(Identity(self.pick((*PODS, *OUTSIDE))))
        if kind < 0.85:
            return self.endpoints()
        if kind < 0.97:
            return self.outsider()
        return ModeSet(self.pick((Mode.DEFAULT, Mode.DEFAULT, Mode.ALWAYS, Mode.NEVER)), self.chance(0.2))

    def outsider(self) -> IdentityPut:
        number = self.pick(range(len(PREFIXES)))
        labels = {cidr_label(parse_prefix(PREFIXES[number])), *parse_labels(["reserved:world"])}
        return IdentityPut(Identity(OUTSIDE[number]), frozenset(labels))

    def endpoints(self) -> EndpointsChanged:
        addresses = frozenset(self.pick(ADDRESSES) for _ in self.some(2))
        ports = frozenset(
            ContainerPort(self.pick(("http", "dns")), self.pick((6, 17)), self.pick((80, 443, 8080)))
            for _ in self.some(3)
        )
        return EndpointsChanged(Identity(self.pick(PODS)), addresses, ports)

    def labels(self) -> list[str]:
        found = [f"k8s:{NAMESPACE}={self.pick(VALUES)}"]
        return found + [f"k8s:{key}={self.pick(VALUES)}" for key in ("app", "tier") if self.chance(0.7)]

    def policy(self) -> Policy:
        specs = tuple(self.spec() for _ in range(self.pick((1, 1, 2))))
        return Policy(f"CiliumNetworkPolicy/x/{self.pick('pqrst')}", specs)

    def spec(self) -> Spec:
        rules = [part for _ in self.some(3) for part in split_names(self.rule())]
        return Spec(self.by_label(), tuple(rules), self.chance(0.5), self.chance(0.5), self.chance(0.1))

    def rule(self) -> Rule:
        peers = None if self.chance(0.2) else tuple(self.peer() for _ in self.some(3))
        ports = None if self.chance(0.25) else tuple(self.port() for _ in range(self.pick((1, 2, 3, 12))))
        return Rule(self.chance(0.5), self.chance(0.3), peers, ports)

    def port(self) -> PortRange | NamedPort:
        protocol = self.pick((6, 6, 17))
        kind = self._random.random()
        if kind < 0.2:
            return NamedPort(protocol, self.pick(("http", "dns")))
        if kind < 0.3:
            return PortRange(1, 8, 8)
        if kind < 0.4:
            return PortRange(protocol)
        if kind < 0.7:
            one = self.pick(range(72, 88))
            return PortRange(protocol, one, one)
        first, last = sorted((self.pick(NUMBERS), self.pick(NUMBERS)))
        return PortRange(protocol, first, last)

    def peer(self) -> Selector:
        kind = self._random.random()
        if kind < 0.5:
            return self.by_label()
        if kind < 0.6:
            name = self.pick(("host", "world", "init", "remote-node"))
            return Selector((Requirement("reserved", name, Operator.EXISTS),))
        prefix = self.pick((*PREFIXES, "0.0.0.0/0"))
        holes = [self.pick(PREFIXES) for _ in self.some(1)]
        if kind < 0.8:
            return Selector(block=Block(parse_prefix(prefix), tuple(map(parse_prefix, holes))))
        absent = (Requirement("cidr", hole, Operator.ABSENT) for hole in holes)
        return Selector((Requirement("cidr", prefix, Operator.EXISTS), *absent))

    def by_label(self) -> Selector:
        return Selector(tuple(self.requirement() for _ in self.some(2)))

    def requirement(self) -> Requirement:
        source, key = self.pick(("k8s", "any")), self.pick(("app", "tier", NAMESPACE))
        operator = self.pick(tuple(Operator))
        if operator in (Operator.EXISTS, Operator.ABSENT):
            return Requirement(source, key, operator)
        return Requirement(source, key, operator, tuple(sorted({self.pick(VALUES), self.pick(VALUES)})))

    def probes(self) -> Iterator[tuple[bool, int, int]]:
        for _ in range(PROBES):
            protocol = self.pick((6, 6, 17, 1, 47))
            yield self.chance(0.5), protocol, 8 if protocol == 1 else self.pick((*NUMBERS, *range(70, 90)))


class Run:
    """One history: an engine that is told of each event, and whoever hears only its differences."""

    def __init__(self, author: Author) -> None:
        self._author = author
        self.engine = Engine()
        self.world = World()
        self.heard: dict[Identity, dict[PolicyKey, PolicyEntry]] = {}

    def step(self) -> None:
        """Take one event, or a few at once."""
        events = [self._author.event() for _ in range(self._author.pick((1, 1, 1, 3)))]
        for event in events:
            self.world.take(event)
        for subject, difference in self.engine.apply(events).items():
            mirror = self.heard.setdefault(subject, {})
            for key in difference.removes:
                del mirror[key]
            mirror.update(difference.upserts)

    def compare(self) -> int:
        """Compare with a new engine and by brute force; returns how many flows were judged."""
        fresh = Engine()
        fresh.apply(self.world.events())
        full = {subject: state for subject in fresh.subjects if (state := fresh.map_state(subject))}
        held = {subject: self.engine.map_state(subject) for subject in self.engine.subjects}
        assert {subject: state for subject, state in held.items() if state} == full
        assert {subject: mirror for subject, mirror in self.heard.items() if mirror} == full
        assert all(self.engine.size(subject) == len(state) for subject, state in full.items())
        model = self.world.model()
        subjects, peers = sorted(self.engine.subjects), sorted(model.workloads)
        for egress, protocol, port in self._author.probes():
            subject, peer = self._author.pick(subjects), self._author.pick(peers)
            verdict = decide(full.get(subject, {}), Identity(peer), egress=egress, protocol=protocol, port=port)
            expected = model.judge(subject, peer, egress=egress, protocol=protocol, port=port)
            found = "audited" if verdict.audited else "allowed" if verdict.allowed else "denied"
            assert found == expected, (subject, peer, egress, protocol, port, verdict)
        return PROBES


def run_histories(steps: int, seed: int) -> tuple[int, int]:
    """Play histories of so many steps in all; returns how often was compared, and how many flows
    were judged.
    """
    author = Author(seed)
    compared = judged = 0
    for start in range(0, steps, HISTORY):
        run = Run(author)
        for number in range(min(HISTORY, steps - start)):
            run.step()
            if number % COMPARE == COMPARE - 1:
                judged += run.compare()
                compared += 1
    return compared, judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    compared, judged = run_histories(arguments.steps, arguments.seed)
    print(
        f"{arguments.steps:,} steps, {compared:,} comparisons with a full recomputation, {judged:,} flows by brute "
        f"force: none different, in {time.perf_counter() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
