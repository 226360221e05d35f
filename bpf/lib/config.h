/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the agent sets between open and load; the verifier prunes what a value rules out. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

/* Addresses of this node on the underlay, and those that its pods have as their gateway; 0: none. */
const volatile __be32 node_ipv4 = 0;
const volatile __be32 gateway_ipv4 = 0;
const volatile struct address node_ipv6 = {};
const volatile struct address gateway_ipv6 = {};

/* What pods see as their neighbour: 02:"cilia". */
const volatile __u8 gateway_mac[6] = {0x02, 'c', 'i', 'l', 'i', 'a'};

/* The collect-metadata VXLAN device, 0: none; what pods must not send to, since nodes trust it; and the longest packet
 * in bytes that fits into the tunnel, 0: not checked. */
const volatile __u32 overlay_ifindex = 0;
const volatile __u16 tunnel_port = 8472;
const volatile __u32 overlay_mtu = 0;

/* Packets between nodes' pods are routed by the underlay as they are. */
const volatile bool is_native = false;

const volatile bool tracks_fragments = true;

/* Report an established flow that often, in units of 2^20 ns, and when TCP begins or ends; 0: only verdicts. */
const volatile __u32 trace_ticks = 0;

static __always_inline void write_gateway_mac(__u8 *mac)
{
	for (int i = 0; i < (int)sizeof(gateway_mac); i++)
		mac[i] = gateway_mac[i];
}
