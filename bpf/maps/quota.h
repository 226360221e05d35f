/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Shares of endpoints in the tables of flows.
 *
 * Each flow is charged to one endpoint of this node when it is created: to whoever began it, or if
 * that one lives elsewhere, to whoever it came to. What an endpoint begins and what comes to it are
 * charged apart, so that nobody outside can keep it from connecting.
 *
 * `created` is counted by the programs, `removed` is what the agent says at the end of each of its
 * sweeps, so that their difference is what is held.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum flow_share_limit {
	FLOW_SHARE_ENDPOINTS = 4096, /* endpoints are told apart by their id modulo this */
	FLOW_SHARES = 4 * FLOW_SHARE_ENDPOINTS,
};

/* Flows of an endpoint; index: id % FLOW_SHARE_ENDPOINTS * 4 + is_outgoing * 2 + is_ipv6. Both only
 * grow, and wrap. */
struct flow_share {
	__u32 created;
	__u32 removed;
};

/* Flows of the node, by family: [0] IPv4, [1] IPv6. */
struct flow_account {
	__u32 created[2];
	__u32 removed[2];
	__u32 capacity[2]; /* flows that the tables hold before they evict any; 0: no limit */
	__u32 share;       /* part of what is free that one endpoint may hold, in 1/256 */
	__u32 sweep;       /* number of the agent's present sweep */
	__u32 last_swept;  /* time when the latest one ended; see lib/clock.h */
	__u32 lease;       /* ticks for which shares are limited after it */
};

_Static_assert(sizeof(struct flow_share) == 8, "flow_share");
_Static_assert(sizeof(struct flow_account) == 40, "flow_account");

/* Writers: the programs and the agent. Lifetime: pinned; outlives the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOW_SHARES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_share);
} cilia_flow_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_account);
} cilia_flow_account SEC(".maps");
