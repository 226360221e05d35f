import pytest

from cilia.abi.structs import CtEntry, CtSide
from cilia.datapath.clock import TICKS_PER_SECOND
from services.agent.config import TimeoutConfig
from services.agent.conntrack.gc import ACK, FIN, RST, SYN, is_expired, lifetime_seconds

TIMEOUTS = TimeoutConfig()


def flow(protocol: int = 6, flags: tuple[int, int] = (0, 0), last_seen: int = 1000) -> tuple[int, CtEntry]:
    sides = tuple(CtSide(1, 60, 0, 0, 0, 0, bytes(6), each) for each in flags)
    return (
        protocol,
        CtEntry(1, (1, 0), (0, 0), (300, 301), last_seen, 0, sides),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("protocol", "flags", "seconds"),
    [
        (6, (SYN, 0), 60),
        (6, (SYN, SYN | ACK), 60),
        (6, (SYN | ACK, SYN | ACK), 8000),
        (6, (SYN | ACK | FIN, SYN | ACK), 8000),
        (6, (SYN | ACK | FIN, SYN | ACK | FIN), 10),
        (6, (SYN | ACK, SYN | ACK | RST), 10),
        (17, (0, 0), 60),
        (1, (0, 0), 60),
    ],
)
def test_lifetimes_follow_the_state_of_the_connection(protocol: int, flags: tuple[int, int], seconds: int) -> None:
    assert lifetime_seconds(*flow(protocol, flags), TIMEOUTS) == seconds


def test_a_flow_expires_after_its_lifetime_and_not_before() -> None:
    edge = 1000 + int(60 * TICKS_PER_SECOND)
    assert not is_expired(*flow(17), edge, TIMEOUTS)
    assert is_expired(*flow(17), edge + 1, TIMEOUTS)


def test_a_clock_that_wrapped_is_no_reason_to_forget_a_flow() -> None:
    assert not is_expired(*flow(17, last_seen=2**32 - 5), 5, TIMEOUTS)


def test_a_flow_seen_after_our_reading_of_the_clock_is_alive() -> None:
    assert not is_expired(*flow(17, last_seen=1001), 1000, TIMEOUTS)
