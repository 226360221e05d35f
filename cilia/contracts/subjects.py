"""Subjects on the bus: ``cilia.v1.<cluster>.<kind>...``; lower-case tokens, names without dots.

``<root>`` is ``cilia.v1.<cluster>``; ``<sub>`` names a subscriber.

====================================  ===========================================  ================
subject                               payload                                      publisher
====================================  ===========================================  ================
``<root>.delta.<table>.<shard>``      msgpack :class:`~.distribution.Delta`        table's owner
``<root>.delta-batch.<table>.<sub>``  msgpack :class:`~.distribution.DeltaBatch`   table's owner
``<root>.beacon.<table>``             msgpack :class:`~.distribution.Beacon`       table's owner
``<root>.snapshot.<table>.<shard>``   request; msgpack chunks to the reply inbox   any asks
``<root>.request.<service>.<call>``   JSON request and reply                       any asks
``<root>.node.<node>.<call>``         JSON request and reply, to one agent         CLI, operator
``<root>.ack.<node>``                 JSON :class:`~.realisation.Acknowledgement`  agents
``<root>.flow.<node>``                JSON :class:`~.flow_events.FlowBatch`        agents
``<root>.drift.<node>``               JSON :class:`~.drift.ForeignChange`          agents
``<root>.shadow``                     JSON :class:`~.flows.ShadowVerdicts`         recorder
====================================  ===========================================  ================
"""

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Table

VERSION = "v1"
EVERY_SHARD = "_"
"""Token for all shards of a table in a snapshot's subject."""


class Subjects:
    """Subjects of one cluster."""

    def __init__(self, cluster: str) -> None:
        self._prefix = f"cilia.{VERSION}.{cluster}"

    def delta(self, table: Table, shard: str = "*") -> str:  # type: ignore[type-arg]
        """Subject of a shard's deltas; ``*`` hears all shards."""
        return f"{self._prefix}.delta.{table.name}.{shard}"

    def delta_batch(self, table: Table, subscriber: str) -> str:  # type: ignore[type-arg]
        """Subject of deltas of many shards for one subscriber that holds them."""
        return f"{self._prefix}.delta-batch.{table.name}.{subscriber}"

    def beacon(self, table: Table) -> str:  # type: ignore[type-arg]
        """Subject of a table's beacon."""
        return f"{self._prefix}.beacon.{table.name}"

    def snapshot(self, table: Table, shard: str = "*") -> str:  # type: ignore[type-arg]
        """Subject of requests for a shard, or :data:`EVERY_SHARD`; a queue group of replicas."""
        return f"{self._prefix}.snapshot.{table.name}.{shard}"

    def request(self, service: str, call: str = "*") -> str:
        """Subject of a call to any replica of a service."""
        return f"{self._prefix}.request.{service}.{call}"

    def node(self, node: NodeName, call: str = "*") -> str:
        """Subject of a call to one node's agent."""
        return f"{self._prefix}.node.{node}.{call}"

    def ack(self, node: str = "*") -> str:
        """Subject of a node's acknowledgements."""
        return f"{self._prefix}.ack.{node}"

    def drift(self, node: str = "*") -> str:
        """Subject of the changes by others that a node's agent finds in its kernel."""
        return f"{self._prefix}.drift.{node}"

    def flow(self, node: str = "*") -> str:
        """Subject of a node's flows."""
        return f"{self._prefix}.flow.{node}"

    def shadow(self) -> str:
        """Subject of verdicts that policies in shadow would give."""
        return f"{self._prefix}.shadow"
