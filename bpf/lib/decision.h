/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Decision about a flow while it is made, in a room per CPU that the stack hasn't. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "lib/event.h"
#include "lib/locate.h"
#include "lib/policy.h"
#include "maps/conntrack.h"

struct decision {
	struct location source;
	struct location destination;
	struct policy_query query;
	struct policy_answer answer;
	struct findings findings; /* for the report; who the ends are is filled in at last */
	__u32 changes; /* changes of both addresses' owners, read before these were located */
	__u32 generation;
	__u32 word;     /* cilia_change, read before anything else */
	__u8 initiator; /* side of the flow */
	__u8 state;     /* that the flow keeps or gets, enum ct_state */
	__u8 pad[2];
};

/* Room to decide in. Programs of one CPU don't interrupt each other. */
struct scratch {
	struct ct_entry entry;
	struct ct6_key key; /* key of either family */
	struct decision decision;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} cilia_scratch SEC(".maps");

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilia_scratch, &zero);
}
