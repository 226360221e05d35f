"""Fence of what a node writes: it holds only while the node's membership is the one that is meant.

A node that was declared dead may not know it yet, while another has its addresses.
"""

from dataclasses import dataclass

from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.keys import Keys
from cilia.kvstore import Compare, Op, TxnResult, created_at, get
from services.identity.errors import NotMember


@dataclass(frozen=True, slots=True)
class Member:
    """One incarnation of a node.

    Raises:
        NotMember: It is none.
    """

    keys: Keys
    node: NodeName
    incarnation: Incarnation

    def __post_init__(self) -> None:
        if self.incarnation <= 0:  # to etcd, 0 says that there is no such node
            raise NotMember(self.node, self.incarnation)

    @property
    def condition(self) -> Compare:
        """The node is registered, as this incarnation."""
        return created_at(self.keys.node(self.node), self.incarnation)

    @property
    def read(self) -> Op:
        """Read the node's row, for :meth:`require`."""
        return get(self.keys.node(self.node))

    def require(self, refused: TxnResult) -> None:
        """Make sure that a transaction failed for another reason.

        Raises:
            NotMember: It did not.
        """
        row = next((record for record in refused.records if record.key == self.keys.node(self.node)), None)
        if row is None or row.create_revision != self.incarnation:
            raise NotMember(self.node, self.incarnation)
