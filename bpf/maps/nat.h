/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Masquerading: pods' packets to the world leave with the node's address and a port of ours.
 *
 * Each flow has two entries: one for what the pod sends, and one for what comes back to the node.
 * The ports are ours alone (nat_ports), so that no socket of the node has one of them.
 *
 * Writers: the programs at the uplinks; the agent removes what belongs to no flow of cilia_ct4 or
 * cilia_ct6 any more. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"
#include "maps/ipcache.h"

struct nat_key {
	struct address remote;
	struct address local; /* the pod's; of what comes back the node's */
	__be16 remote_port;
	__be16 local_port; /* echo: the identifier, and 0 as the remote one */
	__u8 protocol;
	__u8 is_reply; /* comes back */
	__u8 pad[2];
};

/* Address and port that the local ones become. */
struct nat_entry {
	struct address address;
	__be16 port;
	__u8 pad[2];
};

_Static_assert(sizeof(struct nat_key) == 40, "nat_key");
_Static_assert(sizeof(struct nat_entry) == 20, "nat_entry");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct nat_key);
	__type(value, struct nat_entry);
} cilia_nat SEC(".maps");

/* Prefixes in which pods are known by their own addresses. Writer: the agent, from its settings.
 * The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ipcache_key);
	__type(value, __u32);
} cilia_non_masquerade SEC(".maps");
