/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the agent sets between open and load; the verifier prunes what a value rules out. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Address of this node on the underlay, and the one that its pods have as their gateway; 0: not known. */
const volatile __be32 node_ipv4 = 0;
const volatile __be32 gateway_ipv4 = 0;

/* What pods see as their neighbour: 02:"cilia". */
const volatile __u8 gateway_mac[6] = {0x02, 'c', 'i', 'l', 'i', 'a'};

/* The collect-metadata VXLAN device; 0: none. */
const volatile __u32 overlay_ifindex = 0;

static __always_inline void write_gateway_mac(__u8 *mac)
{
	for (int i = 0; i < (int)sizeof(gateway_mac); i++)
		mac[i] = gateway_mac[i];
}
