/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Blocks of other nodes' pods, and the node of each: whose tunnel the packets of a pod may come by
 * that the ipcache doesn't know yet. Empty without an overlay.
 *
 * Writer: the agent, from the table of nodes.
 * Readers: from_overlay, for the first packet of such a pod's flow, and whoever decides such a flow
 * anew. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/ipcache.h"

struct block {
	__be32 tunnel; /* the node's */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ipcache_key);
	__type(value, struct block);
} cilia_blocks SEC(".maps");
