/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses at which this node's own stack listens: those of all its devices, and the broadcast
 * addresses of their networks.
 *
 * Writer: the agent, from the kernel's addresses, at once when one comes or goes.
 * Readers: every program, for the first packet of a flow; from_uplink and to_overlay, for every
 * packet's source.
 * Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

struct host_address_key {
	struct address address;
};

enum host_address_kind {
	HOST_ADDRESS_OWN = 1,
	HOST_ADDRESS_BROADCAST = 2, /* broadcast of a network that the node is on */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct host_address_key);
	__type(value, __u32); /* enum host_address_kind */
} cilia_host_addresses SEC(".maps");
