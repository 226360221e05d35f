/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Masquerading: pods' packets to the world leave with the node's address and a port of ours.
 *
 * Each flow has two entries: one for what the pod sends, and one for what comes back to the node.
 * Neither is ever evicted by another flow's. An echo that the node itself sends has one, under
 * which the answer comes back, so that no pod takes its identifier.
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
	__u32 tag;      /* its key's, 0: unknown; first, since an element is written from there */
	__u32 checked;  /* time when no socket here had the port; is_node: latest packet's */
	__u32 number;   /* mapping's among those of its endpoint */
	__u16 endpoint; /* id of the endpoint that it is charged to; 0: none */
	__be16 port;
	struct address address;
	__u8 is_node; /* replies are the node's own */
	__u8 pad[3];
};

_Static_assert(sizeof(struct nat_key) == 40, "nat_key");
_Static_assert(sizeof(struct nat_entry) == 36, "nat_entry");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct nat_key);
	__type(value, struct nat_entry);
} cilia_nat SEC(".maps");

/* Numbers of an endpoint's mappings, by its id: those from `tail` on, below `head`. They wrap. The
 * distance is what counts against the endpoint's quota; numbers between may be of no mapping any
 * more.
 *
 * Writers: the programs at the uplinks. Lifetime: pinned; outlives the agent. */
struct nat_usage {
	__u32 head;
	__u32 tail;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct nat_usage);
} cilia_nat_usage SEC(".maps");

/* Mappings of each endpoint in the order in which they were made, or were last found in use when it
 * was their turn to be taken back: number -> key of what the pod sends.
 *
 * Writers: the programs at the uplinks; the agent, which removes that of a mapping it removes.
 * Lifetime: pinned; outlives the agent. */
struct nat_turn {
	__u32 number;
	__u16 endpoint;
	__u8 pad[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nat_turn);
	__type(value, struct nat_key);
} cilia_nat_turns SEC(".maps");

/* Ports, and identifiers of echos, that mappings take: those that connections of the node itself
 * don't get. One 64-bit word, so that it changes at once; all zero: none.
 *
 * Writer: the agent, which follows net.ipv4.ip_local_port_range. Lifetime: pinned. */
struct nat_ports {
	__u16 first;
	__u16 last;
	__u16 lowest; /* with `highest`: all that a mapping may have from earlier */
	__u16 highest;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_ports);
} cilia_nat_ports SEC(".maps");

/* Prefixes in which pods are known by their own addresses. Writer: the agent, from its settings.
 * The value means nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ipcache_key);
	__type(value, __u32);
} cilia_non_masquerade SEC(".maps");
