"""Counters of a table's two sides."""

from dataclasses import dataclass

from cilia.metrics import counter


@dataclass(slots=True)
class PublisherCounters:
    """Messages of a table that its owner sent."""

    deltas: int = counter("deltas published")
    delta_batches: int = counter("messages with the deltas of many shards published")
    batches: int = counter("batches of deltas published")
    beacons: int = counter("beacons published")
    answers: int = counter("snapshot requests answered")
    answer_bytes: int = counter("bytes of answers to snapshot requests")
    failures: int = counter("messages that did not reach the bus")


@dataclass(slots=True)
class SubscriberCounters:
    """Messages of a table that a subscriber received, requested or missed."""

    deltas: int = counter("deltas received")
    changes: int = counter("changes of shards given to the reader")
    requests: int = counter("snapshots requested")
    rows: int = counter("rows received in snapshots")
    useless_answers: int = counter("snapshots that were too old, or incomplete")
    dropped: int = counter("messages dropped since the loop lagged")
    assembly_timeouts: int = counter("transactions whose shards did not all come in time to be given at once")
