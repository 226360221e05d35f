/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Budgets of reports, so that what one pod floods, or is flooded with, hides nothing of the others.
 *
 * A link has a budget at each hook: a pod's flood is charged to what it sends, one towards it to
 * what comes by that hook for it. Whoever has spent half of his own shares the node's with all
 * others who have: many floods together don't drown the reader, and who is quiet is heard. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/clock.h"
#include "lib/config.h"
#include "maps/event.h"

/* Refill a budget for the time since it was last refilled. Two CPUs may do so for the same tick,
 * and either's spending may be lost: a few reports more. */
static __always_inline void refill(struct event_budget *budget, __u32 now, __u32 rate, __u32 burst)
{
	__u64 most = (__u64)burst * ticks_per_second, credit;

	if (budget->refilled == now)
		return;
	credit = budget->credit + (__u64)(now - budget->refilled) * rate;
	budget->credit = credit < most ? credit : most;
	budget->refilled = now;
}

/* Tell whether a packet at a hook may be reported, and note that it is. `link` is the device of the
 * pod concerned; 0: none is known. */
static __noinline bool spend_report(__u32 link, __u32 hook)
{
	__u32 index = EVENT_BUDGETS_OF_LINKS, now = coarse_now();
	struct event_budget *node = bpf_map_lookup_elem(&cilia_event_budgets, &index), *own;

	index = link % EVENT_LINKS * HOOKS + hook;
	own = bpf_map_lookup_elem(&cilia_event_budgets, &index);
	if (!own || !node)
		return true;
	refill(own, now, event_rate, event_burst);
	if (own->credit < ticks_per_second)
		return false;
	if (node_event_rate) {
		refill(node, now, node_event_rate, node_event_burst);
		if (node->credit >= ticks_per_second)
			node->credit -= ticks_per_second;
		else if (own->credit < event_burst * ticks_per_second / 2)
			return false;
	}
	own->credit -= ticks_per_second;
	return true;
}
