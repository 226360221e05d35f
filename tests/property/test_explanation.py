"""Explanations, which read rules, against map states, which the kernel reads: they agree on every flow."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cilia.contracts.ids import Identity
from cilia.policy.ends import end_of_identity
from cilia.policy.engine import Event
from cilia.policy.explanation import explain_side
from cilia.policy.mapstate import decide
from cilia.policy.mismatch import Packet
from tests.property.test_policy import edges, histories, play, protocols


@settings(max_examples=200, deadline=None)
@given(histories, st.lists(st.tuples(protocols, edges), min_size=1, max_size=3))
def test_what_is_explained_is_what_the_map_state_decides(
    history: list[list[Event]], probes: list[tuple[int, int]]
) -> None:
    engine, world, _ = play(history)
    ends = {Identity(number): end_of_identity(engine, Identity(number), "x") for number in world.model().workloads}
    for subject in engine.subjects:
        state = engine.map_state(subject)
        for peer, end in ends.items():
            for protocol, port in [*probes, (1, 8)]:
                for egress in (False, True):
                    side = explain_side(engine, ends[subject], end, Packet(protocol, port), egress=egress)
                    verdict = decide(state, peer, egress=egress, protocol=protocol, port=port)
                    assert side.allowed == verdict.allowed, (side, verdict)
                    assert all(near.mismatches for near in side.nearest), side
