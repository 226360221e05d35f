/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ipcache: identity and node of any address, by the longest matching prefix.
 *
 * Writer: the agent, from the tables of endpoints and nodes.
 * Readers: every program, for the first packet of a flow.
 * Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

struct ipcache_key {
	__u32 prefixlen; /* 0..128; an IPv4 host is 128 */
	struct address address;
};

enum ipcache_flag {
	IPCACHE_ROUTED = 1, /* packets to there don't enter the tunnel */
};

struct ipcache_entry {
	__u32 identity;
	__be32
	    tunnel;  /* node behind which it lives, and whose tunnel its packets come by; 0: none */
	__u16 flags; /* enum ipcache_flag */
	__u16
	    owner; /* number of the pod, other than its predecessor's; 0: no pod of another node */
};

_Static_assert(sizeof(struct ipcache_key) == 20, "ipcache_key");
_Static_assert(sizeof(struct ipcache_entry) == 12, "ipcache_entry");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 512000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ipcache_key);
	__type(value, struct ipcache_entry);
} cilia_ipcache SEC(".maps");
