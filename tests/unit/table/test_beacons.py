"""Beacons: when the next is due, and how far back it reaches."""

from cilia.table.beacons import BEACON_SECONDS, BEACON_WINDOW, BeaconSchedule


def test_the_first_is_due_at_once_and_the_next_a_second_later() -> None:
    beacons = BeaconSchedule()
    assert beacons.seconds_left(0.0) == 0.0
    beacons.begin_interval(100.0, 5, 0)
    assert beacons.seconds_left(100.0) == BEACON_SECONDS
    assert beacons.seconds_left(100.0 + 2 * BEACON_SECONDS) == 0.0


def test_one_that_is_asked_for_is_regular_only_if_that_one_is_due_too() -> None:
    beacons = BeaconSchedule()
    beacons.begin_interval(100.0, 5, 0)
    assert not beacons.is_regular(100.5, asked_for=True)
    assert beacons.is_regular(100.0 + BEACON_SECONDS, asked_for=True)
    assert beacons.is_regular(100.5, asked_for=False)


def test_a_regular_one_reaches_back_over_the_window_and_before_that_over_the_log() -> None:
    beacons = BeaconSchedule()
    reached = [beacons.begin_interval(float(turn), 100 + turn, 7) for turn in range(BEACON_WINDOW + 3)]
    assert reached[0] == 7
    assert reached[1 : BEACON_WINDOW + 1] == [100] * BEACON_WINDOW
    assert reached[BEACON_WINDOW + 1 :] == [101, 102]
    assert beacons.window(7) == 103


def test_one_after_a_batch_reaches_back_to_the_one_before() -> None:
    beacons = BeaconSchedule()
    assert [beacons.since_last(sequence) for sequence in (5, 6, 9)] == [0, 5, 6]
