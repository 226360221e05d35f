/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Endpoints of this node, by address.
 *
 * Writer: the agent, when an endpoint is created, changes identity or goes.
 * Readers: every program, for the first packet of a flow: the owner of a
 * source address (anti-spoofing) and the device of a destination.
 * Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

struct endpoint_key {
	struct address address;
};

enum endpoint_flag {
	ENDPOINT_AUDIT = 1, /* would-be drops are reported and let through */
};

struct endpoint {
	__u32 ifindex;     /* the host's end of its veth pair */
	__u32 identity;    /* security identity */
	__u16 id;          /* number of the endpoint on this node */
	__u16 policy_slot; /* index into cilia_policy_slots; 0: not realised, deny */
	__u8 mac[6];       /* pod's end of the link */
	__u8 flags;        /* enum endpoint_flag */
	__u8 pad;
};

_Static_assert(sizeof(struct endpoint) == 20, "endpoint");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint_key);
	__type(value, struct endpoint);
} cilia_endpoints SEC(".maps");
