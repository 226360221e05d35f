"""Swap two sets of policies under traffic, and look at every verdict."""

from time import monotonic
from typing import NamedTuple

from services.agent.policy.instructions import RealisedPolicy
from tests.bpf.swaps.arena import BLUE, PORTS, RED, Arena, Watch, resolve
from tests.bpf.swaps.writers import Writer, write_as_the_agent


class Campaign(NamedTuple):
    """Outcome of a campaign."""

    swaps: int
    packets: int
    verdicts: int
    seconds: float
    wrong: dict[str, int]
    """Verdicts that belonged to neither set, and how often."""


def run(arena: Arena, write: Writer, swaps: int, *, until_wrong: bool = False) -> Campaign:
    """Swap so often; ``until_wrong``: or until something was seen that belongs to neither set."""
    held: dict[int, RealisedPolicy] = {slot: found.realised for slot, found in arena.maps.read().items()}
    sets = [resolve(RED), resolve(BLUE)]
    outcomes = []
    for states in sets:
        write_as_the_agent(arena.maps, held, states)
        outcomes.append(arena.outcomes())
    watch = Watch(
        legal=frozenset(seen for each in outcomes for _, seen in each.values()),
        passable=frozenset(port for port in PORTS if any(each[port][0] for each in outcomes)),
        closable=frozenset(port for port in PORTS if not all(each[port][0] for each in outcomes)),
    )
    done, began = 0, monotonic()
    with arena.traffic(watch):
        while done < swaps and not (until_wrong and watch.wrong):
            write(arena.maps, held, sets[done % 2])
            for seen in arena.verdicts():
                watch.see_verdict(seen)
            done += 1
    return Campaign(done, watch.packets, watch.verdicts, monotonic() - began, dict(watch.wrong))
