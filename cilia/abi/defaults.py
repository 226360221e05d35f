"""Configuration of the data plane as long as nobody sets it (bpf/lib/config.h).

Generated from BTF by tools/abi.py (make abi); don't edit.
"""

from typing import Final

NODE_IPV4: Final = 0
NODE_IPV6: Final = bytes.fromhex("00000000000000000000000000000000")
GATEWAY_MAC: Final = bytes.fromhex("0263696c6961")
OVERLAY_IFINDEX: Final = 0
TUNNEL_PORT: Final = 8472
OVERLAY_MTU: Final = 0
IS_NATIVE: Final = False
MASQUERADES: Final = False
NAT_QUOTA: Final = 8192
IPV6_CHECKSUM_FLAG: Final = 0
TRACKS_FRAGMENTS: Final = True
READS_OFFLOAD: Final = False
EVENT_RATE: Final = 0
EVENT_BURST: Final = 0
NODE_EVENT_RATE: Final = 0
NODE_EVENT_BURST: Final = 0
TICKS_PER_SECOND: Final = 250
TRACE_TICKS: Final = 0
HAS_FRONT_PATH: Final = True
