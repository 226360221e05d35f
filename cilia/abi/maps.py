"""Maps of the data plane; who writes and who reads them stands in bpf/maps.

Generated from BTF by tools/abi.py (make abi); don't edit.
"""

from typing import Final

from cilia.abi import codec, structs
from cilia.abi.codec import MapLayout, RingLayout
from cilia.abi.kinds import MapKind

ADDRESSES: Final = MapLayout("cilia_addresses", MapKind.ARRAY, codec.U32, codec.U32, 65536, 0x400)
BLOCKS: Final = MapLayout("cilia_blocks", MapKind.LPM_TRIE, structs.IPCACHE_KEY, structs.BLOCK, 65536, 0x1)
CHANGE: Final = MapLayout("cilia_change", MapKind.ARRAY, codec.U32, codec.U32, 1, 0x400)
CT4: Final = MapLayout("cilia_ct4", MapKind.LRU_HASH, structs.CT4_KEY, structs.CT_ENTRY, 131072)
CT6: Final = MapLayout("cilia_ct6", MapKind.LRU_HASH, structs.CT6_KEY, structs.CT_ENTRY, 131072)
ENDPOINTS: Final = MapLayout("cilia_endpoints", MapKind.HASH, structs.ENDPOINT_KEY, structs.ENDPOINT, 4096, 0x1)
EVENT_BUDGETS: Final = MapLayout("cilia_event_budgets", MapKind.ARRAY, codec.U32, structs.EVENT_BUDGET, 32769)
EVENTS: Final = RingLayout("cilia_events", 4194304)
FLOW_ACCOUNT: Final = MapLayout("cilia_flow_account", MapKind.ARRAY, codec.U32, structs.FLOW_ACCOUNT, 1, 0x400)
FLOW_SHARES: Final = MapLayout("cilia_flow_shares", MapKind.ARRAY, codec.U32, structs.FLOW_SHARE, 16384, 0x400)
FRAGMENTS: Final = MapLayout("cilia_fragments", MapKind.LRU_HASH, structs.FRAGMENT_KEY, structs.FRAGMENT_PORTS, 8192)
GATEWAYS: Final = MapLayout("cilia_gateways", MapKind.ARRAY, codec.U32, codec.raw(16), 2)
HOST_ADDRESSES: Final = MapLayout("cilia_host_addresses", MapKind.HASH, structs.HOST_ADDRESS_KEY, codec.U32, 16384, 0x1)
IPCACHE: Final = MapLayout("cilia_ipcache", MapKind.LPM_TRIE, structs.IPCACHE_KEY, structs.IPCACHE_ENTRY, 512000, 0x1)
METRICS: Final = MapLayout("cilia_metrics", MapKind.PERCPU_ARRAY, codec.U32, structs.METRIC, 2048)
NAT: Final = MapLayout("cilia_nat", MapKind.HASH, structs.NAT_KEY, structs.NAT_ENTRY, 131072)
NAT_PORTS: Final = MapLayout("cilia_nat_ports", MapKind.ARRAY, codec.U32, structs.NAT_PORTS, 1, 0x400)
NAT_TURNS: Final = MapLayout("cilia_nat_turns", MapKind.HASH, structs.NAT_TURN, structs.NAT_KEY, 65536, 0x1)
NAT_USAGE: Final = MapLayout("cilia_nat_usage", MapKind.ARRAY, codec.U32, structs.NAT_USAGE, 65536)
NON_MASQUERADE: Final = MapLayout("cilia_non_masquerade", MapKind.LPM_TRIE, structs.IPCACHE_KEY, codec.U32, 16384, 0x1)
POLICY: Final = MapLayout("cilia_policy", MapKind.HASH, structs.POLICY_KEY, structs.POLICY_ENTRY, 262144, 0x1)
POLICY_EPOCH: Final = MapLayout("cilia_policy_epoch", MapKind.ARRAY, codec.U32, codec.U32, 1, 0x400)
POLICY_SLOTS: Final = MapLayout("cilia_policy_slots", MapKind.ARRAY, codec.U32, structs.POLICY_SLOT, 4096, 0x400)
