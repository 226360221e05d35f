/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Gateways of this node's pods: an address of this node for each family, or none.
 *
 * Writer: the agent, once the node has a block of addresses.
 * Readers: every program, for the first packet of a flow, questions about neighbours, and errors
 * that it sends. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

enum gateway_family {
	GATEWAY_IPV4 = 0,
	GATEWAY_IPV6 = 1,
	GATEWAYS = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GATEWAYS);
	__type(key, __u32);
	__type(value, struct address);
} cilia_gateways SEC(".maps");
