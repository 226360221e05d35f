"""Keys in etcd, one prefix per owning service; values are JSON unless said otherwise.

``<root>`` is ``cilia/v1/<cluster>``. A key stays until its writer removes it; only a leader's goes
with its lease. Who removes a node (ipam) removes its blocks and endpoints in the same transaction.

=============================================  =========================  =========  ==============
key                                            value                      lease      writer
=============================================  =========================  =========  ==============
``<root>/epoch``                               Unix time (text): names    none       the first one
                                               the history of this etcd
``<root>/nodes/<node>``                        :class:`~.tables.Node`     none       ipam
``<root>/ipam/pools/<pool>``                   :class:`~.tables.Pool`     none       ipam
``<root>/ipam/blocks/<pool>/<address>-<len>``  :class:`Block`             none       ipam
``<root>/ipam/held/<node>``                    :class:`FormerGrant`       none       ipam
``<root>/ipam/stale/<node>``                   :class:`~.tables.          none       ipam
                                               Staleness`
``<root>/identities/id/<number>``              canonical labels (text)    none       identity
``<root>/identities/value/<labels>``           the number (text)          none       identity
``<root>/identities/ref/<number>/<holder>``    empty                      none       identity
``<root>/identities/unused/<number>``          empty                      none       identity
``<root>/endpoints/<node>/<id>``               :class:`~.tables.Endpoint` none       identity; ipam
                                                                                     with the node
``<root>/policies/<kind>/<namespace>/<name>``  :class:`~.tables.          none       policy
                                               PolicyObject`
``<root>/policy-cause``                        :class:`Cause` of the      none       policy
                                               newest change of policies
``<root>/leaders/<service>``                   replica's name             replica    each service
``cilia/history/v1/<cluster>/policies/         zlib of a                  none       policy
<time>-<random>``                              :class:`~.history.
                                               PolicyRevision`
``cilia/flows/v1/<cluster>/<time>-<random>``   zlib of a list of          none       recorder
                                               :class:`~.flows.
                                               RecordedFlow`
``cilia/flows/v1/<cluster>/summary``           :class:`RecordSummary`     none       recorder
=============================================  =========================  =========  ==============
"""

from msgspec import Struct

from cilia.contracts.ids import EndpointId, Identity, NodeName


class Block(Struct, frozen=True):
    """A block of pod addresses granted to a node."""

    cidr: str
    node: NodeName
    pool: str


class Cause(Struct, frozen=True):
    """Cause of a change of policies, written in its transaction, so that mirrors know it even for
    deletions.
    """

    traceparent: str
    """W3C trace context of the request."""
    accepted_ns: int
    """Unix time in ns."""


class FormerGrant(Struct, frozen=True):
    """Blocks that a node was granted last; they outlive its row, for a node that returns."""

    cidrs: tuple[str, ...]


class RecordSummary(Struct, frozen=True):
    """Extent of the recorder's record as a whole."""

    since_ns: int
    """Unix time in ns since which flows are recorded."""
    evicted: int = 0
    """Number of distinct flows that had to make room."""


class Keys:
    """Keys of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.root = f"cilia/v1/{cluster}/"
        self.epoch = self.root + "epoch"
        self.nodes = self.root + "nodes/"
        self.pools = self.root + "ipam/pools/"
        self.blocks = self.root + "ipam/blocks/"
        self.former_grants = self.root + "ipam/held/"
        self.stale = self.root + "ipam/stale/"
        self.identities = self.root + "identities/id/"
        self.identity_values = self.root + "identities/value/"
        self.identity_refs = self.root + "identities/ref/"
        self.identities_unused = self.root + "identities/unused/"
        self.endpoints = self.root + "endpoints/"
        self.policies = self.root + "policies/"
        self.policy_cause = self.root + "policy-cause"
        self.policy_revisions = f"cilia/history/v1/{cluster}/policies/"
        """Prefix outside of the root, so that those who mirror the root are spared the history."""
        self.flows = f"cilia/flows/v1/{cluster}/"
        """Prefix outside of the root, so that those who mirror the root are spared the flows."""
        self.flow_summary = self.flows + "summary"
        self.leaders = self.root + "leaders/"

    def node(self, node: NodeName) -> str:
        """Key of a node."""
        return self.nodes + node

    def pool(self, pool: str) -> str:
        """Key of a pool."""
        return self.pools + pool

    def block(self, pool: str, cidr: str) -> str:
        """Key of a block; the slash of the CIDR becomes a dash."""
        return f"{self.blocks}{pool}/{cidr.replace('/', '-')}"

    def former_grant(self, node: NodeName) -> str:
        """Key of the blocks that a node was granted last."""
        return self.former_grants + node

    def stale_node(self, node: NodeName) -> str:
        """Key of the mark of a node whose agent is silent."""
        return self.stale + node

    def endpoints_of(self, node: NodeName) -> str:
        """Prefix of the endpoints of a node."""
        return f"{self.endpoints}{node}/"

    def identity(self, identity: Identity) -> str:
        """Key of an identity's labels."""
        return f"{self.identities}{identity}"

    def identity_value(self, canonical_labels: str) -> str:
        """Key under which a label set's number is found."""
        return self.identity_values + canonical_labels

    def identity_ref(self, identity: Identity, holder: str) -> str:
        """Key of one holder's reference to an identity."""
        return f"{self.identity_refs}{identity}/{holder}"

    def identity_unused(self, identity: Identity) -> str:
        """Key of the mark of an identity that awaits its deletion; its next user removes it."""
        return f"{self.identities_unused}{identity}"

    def endpoint(self, node: NodeName, endpoint: EndpointId) -> str:
        """Key of an endpoint."""
        return f"{self.endpoints_of(node)}{endpoint}"

    def policy(self, object_key: str) -> str:
        """Key of a policy object (:func:`~.tables.policy_object_key`)."""
        return self.policies + object_key

    def policy_revision(self, name: str) -> str:
        """Key of one revision of policy; ``name`` sorts by time."""
        return self.policy_revisions + name

    def leader(self, service: str) -> str:
        """Key whose holder publishes a service's tables."""
        return self.leaders + service
