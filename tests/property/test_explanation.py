"""Explanations, which read rules, against map states, which the kernel reads: they agree on every
flow.
"""

from functools import cache
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.policy.engine.events import Event, PolicyPut, PolicyRemoved
from cilia.policy.engine.verdict import StateLookup, decide
from cilia.policy.explain.explanation import explain_side
from cilia.policy.explain.judgement import Judge
from cilia.policy.explain.packet import Packet
from cilia.policy.explain.parties import party_of_identity
from cilia.policy.language.parse import parse_policies
from tests.property.examples import examples
from tests.property.test_policy import edges, histories, play, protocols

FLOWS = [(protocol, port) for protocol in (6, 17) for port in (0, 1, 80, 443, 65_535)]


@settings(max_examples=examples(60), deadline=None)
@given(histories, st.lists(st.tuples(protocols, edges), min_size=1, max_size=3))
def test_what_is_explained_is_what_the_map_state_decides(
    history: list[list[Event]], probes: list[tuple[int, int]]
) -> None:
    engine, world, _ = play(history)
    ends = {Identity(number): party_of_identity(engine, Identity(number), "x") for number in world.model().workloads}
    judge = Judge(engine)
    for subject in engine.subjects:
        state = StateLookup(engine.map_state(subject))
        for peer, end in ends.items():
            for protocol, port in [*probes, (1, 8)]:
                for egress in (False, True):
                    side = explain_side(judge, ends[subject], end, Packet(protocol, port), egress=egress)
                    verdict = state.decide(peer, egress=egress, protocol=protocol, port=port)
                    assert (side.allowed, side.audited) == (verdict.allowed, verdict.audited), (side, verdict)
                    assert all(near.mismatches for near in side.nearest), side


@settings(max_examples=examples(25), deadline=None)
@given(histories, st.tuples(protocols, st.sampled_from([1, 80, 443, 65_535])))
def test_a_proposed_policy_allows_the_flow_and_takes_nothing_away(
    history: list[list[Event]], probe: tuple[int, int]
) -> None:
    engine, world, _ = play(history)
    packet = Packet(*probe)
    ends = {Identity(number): party_of_identity(engine, Identity(number), "x") for number in world.model().workloads}
    states = {subject: engine.map_state(subject) for subject in engine.subjects}

    @cache
    def passing(subject: Identity) -> list[tuple[Identity, bool, tuple[int, int]]]:
        before, flows = StateLookup(states[subject]), product(ends, (False, True), FLOWS)
        return [
            (each, way, (protocol, port))
            for each, way, (protocol, port) in flows
            if before.decide(each, egress=way, protocol=protocol, port=port).allowed
        ]

    judge = Judge(engine)
    for subject, peer, egress in product(states, ends, (False, True)):
        side = explain_side(judge, ends[subject], ends[peer], packet, egress=egress)
        if not side.suggestion:
            assert side.allowed or side.because == "rule"
            continue
        (proposed,) = parse_policies(side.suggestion)
        changes = engine.apply([PolicyPut(proposed.policy)])
        opened = decide(engine.map_state(subject), peer, egress=egress, protocol=packet.protocol, port=packet.port)
        assert opened.allowed, side.suggestion
        for other in changes.keys() & states.keys():
            after = StateLookup(engine.map_state(other))
            for each, way, (protocol, port) in passing(other):
                still = after.decide(each, egress=way, protocol=protocol, port=port)
                assert still.allowed, (side.suggestion, other, each, way, protocol, port)
        engine.apply([PolicyRemoved(proposed.key)])
        assert {each: engine.map_state(each) for each in states} == states
