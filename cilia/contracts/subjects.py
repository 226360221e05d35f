"""Subjects on the bus: ``cilia.v1.<cluster>.<what>...``; tokens in lower case, names without dots.

=================================================  ==========================================  ===================
subject                                            carries                                     who publishes
=================================================  ==========================================  ===================
``cilia.v1.<c>.delta.<table>.<shard>``             msgpack :class:`~.tables.Delta`             the table's owner
``cilia.v1.<c>.delta-batch.<table>.<subscriber>``  msgpack :class:`~.tables.DeltaBatch`            the table's owner
``cilia.v1.<c>.beacon.<table>``                    msgpack :class:`~.tables.Beacon`            the table's owner
``cilia.v1.<c>.snapshot.<table>.<shard>``          request; msgpack chunks to the reply inbox  anyone asks
``cilia.v1.<c>.request.<service>.<call>``          JSON request and reply                      anyone asks
``cilia.v1.<c>.node.<node>.<call>``                JSON request and reply, to one agent        CLI, operator
``cilia.v1.<c>.ack.<node>``                        JSON :class:`~.messages.Acknowledgement`    agents
``cilia.v1.<c>.flow.<node>``                       JSON :class:`~.messages.FlowBatch`          agents
``cilia.v1.<c>.audit.<node>``                      JSON :class:`~.messages.ForeignChange`      agents
``cilia.v1.<c>.shadow``                            JSON :class:`~.flows.ShadowVerdicts`        recorder
=================================================  ==========================================  ===================
"""

from cilia.contracts.ids import NodeName
from cilia.contracts.tables import Table

VERSION = "v1"
EVERY_SHARD = "_"
"""Token that stands for all shards of a table in a snapshot's subject."""


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
        """Subject on which replicas, as a queue group, answer for a shard, or for
        :data:`EVERY_SHARD`.
        """
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

    def audit(self, node: str = "*") -> str:
        """Subject of what a node's agent finds changed by others in its kernel."""
        return f"{self._prefix}.audit.{node}"

    def flow(self, node: str = "*") -> str:
        """Subject of a node's flows."""
        return f"{self._prefix}.flow.{node}"

    def shadow(self) -> str:
        """Subject of verdicts that policies in shadow would give."""
        return f"{self._prefix}.shadow"
