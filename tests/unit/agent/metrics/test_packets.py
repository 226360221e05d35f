"""Packet counters: sums over CPUs by hook and outcome, read at most once a second."""

from collections.abc import Iterator
from typing import cast

from cilia.abi.enums import DropReason, Hook, Outcome
from cilia.abi.structs import Metric
from cilia.datapath.objects import LoadedObject
from cilia.metrics import Metrics
from services.agent.metrics.packets import PacketCounters


class FakeObjects:
    """A data plane whose cilia_metrics counts what a test says."""

    def __init__(self) -> None:
        self.reads = 0
        self.counts: dict[tuple[int, Hook], Metric] = {}
        self.closed = False

    def per_cpu_map(self, _layout: object) -> "FakeObjects":
        return self

    def items(self) -> Iterator[tuple[int, Metric]]:
        self.reads += 1
        for outcome in (*Outcome, *DropReason):
            for hook in Hook:
                if hook is not Hook.HOOKS:
                    yield outcome * Hook.HOOKS + hook, self.counts.get((outcome, hook), Metric(0, 0))

    def close(self) -> None:
        self.closed = True


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.objects = FakeObjects()
        self.packets = PacketCounters(cast(LoadedObject, self.objects), clock=lambda: self.now)

    def shown(self) -> dict[str, float]:
        metrics = Metrics()
        self.packets.measure(metrics)
        lines = [line for line in metrics.prometheus().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_packets_and_bytes_are_shown_by_hook() -> None:
    setting = Setting()
    setting.objects.counts[Outcome.FORWARDED, Hook.FROM_POD] = Metric(3, 300)
    shown = setting.shown()
    assert shown['cilia_forwarded_packets{hook="from-pod"}'] == 3
    assert shown['cilia_forwarded_bytes{hook="from-pod"}'] == 300
    assert shown['cilia_forwarded_packets{hook="to-pod"}'] == 0


def test_drops_are_shown_by_reason_and_hook() -> None:
    setting = Setting()
    setting.objects.counts[DropReason.POLICY_DENIED, Hook.TO_POD] = Metric(5, 500)
    setting.objects.counts[Outcome.AUDITED, Hook.TO_POD] = Metric(2, 200)
    shown = setting.shown()
    assert shown['cilia_dropped_packets{hook="to-pod",reason="policy-denied"}'] == 5
    assert shown['cilia_audited_packets{hook="to-pod"}'] == 2
    dropped = [value for name, value in shown.items() if name.startswith("cilia_dropped")]
    assert (sum(dropped), len(dropped)) == (5, len(DropReason) * 6)


def test_reports_without_room_and_above_the_limit_are_summed_over_hooks() -> None:
    setting = Setting()
    setting.objects.counts[Outcome.LOST_EVENT, Hook.FROM_POD] = Metric(2, 0)
    setting.objects.counts[Outcome.LOST_EVENT, Hook.TO_UPLINK] = Metric(3, 0)
    setting.objects.counts[Outcome.LIMITED_EVENT, Hook.TO_POD] = Metric(4, 0)
    assert setting.packets.lost_events() == 5
    assert (setting.shown()["cilia_lost_events"], setting.shown()["cilia_limited_events"]) == (5, 4)


def test_the_map_is_read_once_a_second_however_often_it_is_asked_for() -> None:
    setting = Setting()
    setting.shown()
    setting.now = 0.9
    assert setting.packets.packets(Outcome.FORWARDED, Hook.FROM_POD) == 0
    assert setting.objects.reads == 1
    setting.objects.counts[Outcome.FORWARDED, Hook.FROM_POD] = Metric(1, 1)
    setting.now = 1.0
    assert setting.packets.packets(Outcome.FORWARDED, Hook.FROM_POD) == 1
    assert setting.objects.reads == 2


def test_the_map_is_given_back() -> None:
    setting = Setting()
    setting.packets.close()
    assert setting.objects.closed
