"""Metrics of the newest revision of policies: nodes, stragglers, and times until in force."""

from collections.abc import Callable

from cilia.contracts.realisation import Realised
from cilia.metrics import Metrics, percentile


def measure(metrics: Metrics, newest: Callable[[], Realised]) -> None:
    """Show nodes, stragglers and times of what ``newest`` gives at each asking."""

    def time_ms(share: int) -> Callable[[], float]:
        return lambda: percentile(sorted(node.milliseconds for node in newest().nodes), share)

    text = "nodes that have the newest revision of policies in force, of those that it concerns"
    metrics.gauge("policy_realised_nodes", text, lambda: len(newest().nodes))
    text = "nodes that the newest revision of policies concerns, and that don't have it in force"
    metrics.gauge("policy_stragglers", text, lambda: len(newest().stragglers))
    text = "milliseconds until the newest revision of policies was in force: median of its nodes"
    metrics.gauge("policy_realised_median_ms", text, time_ms(50))
    metrics.gauge("policy_realised_p99_ms", "likewise: 99th percentile", time_ms(99))
    metrics.gauge("policy_realised_slowest_ms", "likewise: slowest node", time_ms(100))
