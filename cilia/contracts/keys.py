"""Keys in etcd, one prefix per owning service; values are JSON.

====================================================  ==============================  ==========  =====================
key                                                   value                           lease       writer
====================================================  ==============================  ==========  =====================
``cilia/v1/<c>/epoch``                                Unix time (text); names the     none        whoever is
                                                      history of this etcd                        first
``cilia/v1/<c>/nodes/<node>``                         :class:`~.tables.Node`          the node's  ipam
``cilia/v1/<c>/ipam/pools/<pool>``                    :class:`~.tables.Pool`          none        ipam
``cilia/v1/<c>/ipam/blocks/<pool>/<address>-<len>``   :class:`Block`                  the node's  ipam
``cilia/v1/<c>/ipam/held/<node>``                     :class:`FormerGrant`                   none        ipam
``cilia/v1/<c>/identities/id/<number>``               canonical labels (text)         none        identity
``cilia/v1/<c>/identities/value/<canonical labels>``  the number (text)               none        identity
``cilia/v1/<c>/identities/ref/<number>/<holder>``     empty                           holder's    identity
``cilia/v1/<c>/identities/unused/<number>``           empty                           none        identity
``cilia/v1/<c>/endpoints/<node>/<id>``                :class:`~.tables.Endpoint`      the node's  identity
``cilia/v1/<c>/policies/<kind>/<namespace>/<name>``   :class:`~.tables.PolicyObject`  none        policy
``cilia/v1/<c>/policy-cause``                           :class:`Cause` of the newest      none        policy
                                                      change of policies
``cilia/history/v1/<c>/policies/<time>-<random>``      compressed (zlib) JSON          none        policy
                                                      :class:`~.history.PolicyRevision`
``cilia/flows/v1/<c>/<time>-<random>``                compressed (zlib) JSON list of  none        recorder
                                                      :class:`~.flows.RecordedFlow`
``cilia/flows/v1/<c>/summary``                        :class:`RecordSummary`                   none        recorder
``cilia/v1/<c>/leaders/<service>``                    replica's name                  replica's   each service
====================================================  ==============================  ==========  =====================
"""

from msgspec import Struct

from cilia.contracts.ids import EndpointId, Identity, NodeName


class Block(Struct, frozen=True):
    """A block of pod addresses granted to a node."""

    cidr: str
    node: NodeName
    pool: str


class Cause(Struct, frozen=True):
    """Of a change of policies: written in its transaction, so whoever mirrors it knows, deletions
    included.
    """

    traceparent: str
    """W3C trace context of the request."""
    accepted_ns: int
    """Unix time in ns."""


class FormerGrant(Struct, frozen=True):
    """What a node was granted last; outlives its lease, so that a node that returns can have it
    again.
    """

    cidrs: tuple[str, ...]


class RecordSummary(Struct, frozen=True):
    """What the recorder knows of its record as a whole."""

    since_ns: int
    """Unix time; flows are recorded since."""
    evicted: int = 0
    """Distinct flows that had to make room."""


class Keys:
    """Keys of one cluster."""

    def __init__(self, cluster: str) -> None:
        self.root = f"cilia/v1/{cluster}/"
        self.epoch = self.root + "epoch"
        self.nodes = self.root + "nodes/"
        self.pools = self.root + "ipam/pools/"
        self.blocks = self.root + "ipam/blocks/"
        self.former_grants = self.root + "ipam/held/"
        self.identities = self.root + "identities/id/"
        self.identity_values = self.root + "identities/value/"
        self.identity_refs = self.root + "identities/ref/"
        self.identities_unused = self.root + "identities/unused/"
        self.endpoints = self.root + "endpoints/"
        self.policies = self.root + "policies/"
        self.policy_cause = self.root + "policy-cause"
        self.policy_revisions = f"cilia/history/v1/{cluster}/policies/"
        """Outside of the root, so that those who mirror it are spared the history."""
        self.flows = f"cilia/flows/v1/{cluster}/"
        """Outside of the root, likewise."""
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
        """Key of what a node was granted last."""
        return self.former_grants + node

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
        """Key of the mark under which an identity awaits its deletion; whoever uses the identity
        removes it.
        """
        return f"{self.identities_unused}{identity}"

    def endpoint(self, node: NodeName, endpoint: EndpointId) -> str:
        """Key of an endpoint."""
        return f"{self.endpoints}{node}/{endpoint}"

    def policy(self, object_key: str) -> str:
        """Key of a policy object (:func:`~.tables.policy_object_key`)."""
        return self.policies + object_key

    def policy_revision(self, name: str) -> str:
        """Key of one revision of policy; ``name`` sorts by time."""
        return self.policy_revisions + name

    def leader(self, service: str) -> str:
        """Key whose holder publishes a service's tables."""
        return self.leaders + service
