"""Sets of peers whose numbers are equal: differences give a node what packets should meet."""

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.labels import workload
from cilia.contracts.tables import FIRST_PEER_SET, PolicyEntry, PolicyKey
from cilia.policy.engine import peersets
from cilia.policy.engine.engine import Engine
from cilia.policy.engine.events import Event, IdentityPut, IdentityRemoved, PolicyPut, PolicyRemoved
from cilia.policy.engine.verdict import decide
from cilia.policy.language.parse import parse_policies

TCP = 6
DB, WEB, JOB, EXTRA = (Identity(number) for number in (256, 300, 301, 302))


@pytest.fixture(autouse=True)
def one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sets have the same number."""
    monkeypatch.setattr(peersets, "HASH_BITS", 0)


def rule(name: str, app: str, *ports: int) -> PolicyPut:
    numbers = ", ".join(f"{{port: '{port}', protocol: TCP}}" for port in ports)
    (parsed,) = parse_policies(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: x}}\n"
        "spec: {endpointSelector: {matchLabels: {app: db}}, ingress: "
        f"[{{fromEndpoints: [{{matchLabels: {{app: {app}}}}}], toPorts: [{{ports: [{numbers}]}}]}}]}}"
    )
    return PolicyPut(parsed.policy)


class Heard:
    """An engine, and a node that only hears its differences."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.state: dict[PolicyKey, PolicyEntry] = {}
        apps = ((DB, "db"), (WEB, "web"), (JOB, "job"), (EXTRA, "web"))
        self.events: list[Event] = [
            IdentityPut(number, workload("x", {"app": app, "n": str(number)})) for number, app in apps
        ]
        self.take(*self.events[:3])

    def take(self, *events: Event) -> None:
        difference = self.engine.apply(events).get(DB)
        for key, entry in difference.rows.items() if difference is not None else ():
            self.state.pop(key, None)
            if entry is not None:
                self.state[key] = entry
        assert self.state == self.engine.map_state(DB)
        assert len(self.state) == self.engine.size(DB)

    def ports(self, peer: Identity) -> set[int]:
        ports = (80, 81, 443, 444)
        return {port for port in ports if decide(self.state, peer, egress=False, protocol=TCP, port=port).allowed}

    @property
    def sets(self) -> int:
        """Number of sets that the node holds."""
        return len({key.identity for key in self.state if key.identity >= FIRST_PEER_SET})


def test_members_of_two_sets_with_one_number_hold_their_own_entries_until_one_set_is_gone() -> None:
    heard = Heard()
    heard.take(rule("one", "web", 80, 443))
    assert (heard.sets, heard.ports(WEB)) == (1, {80, 443})
    heard.take(rule("other", "job", 81, 444))
    assert (heard.sets, heard.ports(WEB), heard.ports(JOB)) == (0, {80, 443}, {81, 444})
    heard.take(PolicyRemoved("CiliumNetworkPolicy/x/one"))
    assert (heard.sets, heard.ports(WEB), heard.ports(JOB)) == (1, set(), {81, 444})


def test_an_identity_that_joins_or_leaves_meets_the_entries_of_its_own_set() -> None:
    heard = Heard()
    heard.take(rule("one", "web", 80, 443), rule("other", "job", 81, 444))
    heard.take(heard.events[3])
    assert (heard.ports(EXTRA), heard.ports(JOB)) == ({80, 443}, {81, 444})
    heard.take(IdentityRemoved(JOB))
    assert (heard.sets, heard.ports(WEB), heard.ports(EXTRA)) == (1, {80, 443}, {80, 443})
    heard.take(heard.events[2])
    assert (heard.sets, heard.ports(EXTRA), heard.ports(JOB)) == (0, {80, 443}, {81, 444})
    heard.take(IdentityRemoved(WEB))
    heard.take(IdentityRemoved(EXTRA))
    assert (heard.sets, heard.ports(JOB)) == (1, {81, 444})


def test_a_set_that_becomes_equal_to_the_other_is_one_with_it() -> None:
    heard = Heard()
    heard.take(rule("one", "web", 80, 443), rule("other", "job", 81, 444))
    heard.take(rule("other", "job", 80, 443))
    assert (heard.ports(WEB), heard.ports(JOB)) == ({80, 443}, {80, 443})
    heard.take(rule("one", "web", 80, 443), rule("other", "job", 81, 444))
    assert (heard.ports(WEB), heard.ports(JOB)) == ({80, 443}, {81, 444})
