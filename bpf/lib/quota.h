/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Quotas of flows: an endpoint may hold a part of what is free, and so never takes the last of it;
 * the tables evict nobody's flow, as long as the agent removes those that have ended.
 *
 * While the agent is away nothing is limited: nobody counts what ended, and the tables evict what
 * was longest unused.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/clock.h"
#include "lib/decision.h"
#include "lib/drop_reasons.h"
#include "lib/packet.h"
#include "maps/conntrack.h"
#include "maps/quota.h"

static __always_inline struct flow_account *flow_account(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilia_flow_account, &zero);
}

static __always_inline struct flow_share *flow_share_of(const struct ct_entry *entry, __u32 ipv6)
{
	__u32 index =
	    entry->endpoint % FLOW_SHARE_ENDPOINTS * 4 + (entry->is_outgoing & 1) * 2 + ipv6;

	return bpf_map_lookup_elem(&cilia_flow_shares, &index);
}

/* Tell whether an endpoint holds so much that it may have no further flow. CPUs that ask at the
 * same time may each give it one more. */
static __always_inline bool is_over_quota(const struct flow_account *account,
					  const struct flow_share *share, __u32 ipv6)
{
	__u32 held = account->created[ipv6] - account->removed[ipv6];
	__u32 capacity = account->capacity[ipv6], own = share->created - share->removed;

	if (!capacity || coarse_now() - account->last_swept > account->lease)
		return false;
	if (held >= capacity)
		return true;
	return (__u64)own * 256 >= (__u64)(capacity - held) * account->share;
}

/* Charge a new flow, which its sender begins, to an endpoint that lives here; returns 0 or a
 * verdict. */
static __noinline int charge_flow(const struct packet *packet, const struct decision *decision,
				  struct ct_entry *entry)
{
	__u32 ipv6 = packet->family == 6;
	struct flow_account *account = flow_account();
	struct flow_share *share;

	entry->is_outgoing = decision->source.ifindex != 0;
	entry->endpoint =
	    entry->is_outgoing ? decision->source.endpoint : decision->destination.endpoint;
	share = flow_share_of(entry, ipv6);
	if (!account || !share)
		return 0;
	if (is_over_quota(account, share, ipv6))
		return -DROP_CT_QUOTA;
	entry->born = account->sweep;
	__sync_fetch_and_add(&account->created[ipv6], 1);
	__sync_fetch_and_add(&share->created, 1);
	return 0;
}

/* Take back the charge of a flow that another CPU has entered meanwhile, or that found no room. */
static __noinline void discharge_flow(const struct packet *packet, const struct ct_entry *entry)
{
	__u32 ipv6 = packet->family == 6;
	struct flow_account *account = flow_account();
	struct flow_share *share = flow_share_of(entry, ipv6);

	if (!account || !share)
		return;
	__sync_fetch_and_add(&account->created[ipv6], -1);
	__sync_fetch_and_add(&share->created, -1);
}
