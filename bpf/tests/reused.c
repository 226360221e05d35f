// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The data plane on a kernel that gives the flow's entry to another flow while a program that
 * looked it up was interrupted, for tests: from the third packet on that is delivered to a pod. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/conntrack.h"

const volatile struct ct4_key reused = {};

__u32 deliveries = 0;

static __always_inline long redirect_after_reuse(__u32 ifindex, __u64 flags)
{
	struct ct4_key key = reused;
	struct ct_entry *entry = bpf_map_lookup_elem(&cilia_ct4, &key);

	if (entry && ++deliveries > 2)
		entry->generation ^= 1, entry->stamp ^= 1;
	return bpf_redirect_peer(ifindex, flags);
}

#define bpf_redirect_peer redirect_after_reuse
#include "cilia.c"
