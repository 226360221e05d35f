/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The way of a packet through any of the programs: one lookup if its flow is known and current. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/count.h"
#include "lib/decide.h"
#include "lib/forward.h"

/* Tell whether the packet comes from where the flow's packets come from, and its sender is who it was. */
static __always_inline bool is_from(const struct ct_side *side, __u32 identity, const struct packet *packet,
				    __u32 source_ifindex)
{
	if (side->source_ifindex != source_ifindex)
		return false;
	if (packet->hook != HOOK_FROM_OVERLAY || packet->identity == identity)
		return true;
	return packet->identity == IDENTITY_REMOTE_NODE && is_remote_node(identity);
}

/* The slow path. An error is no beginning, and nothing is decided anew on its account. */
static __always_inline int pass_slowly(struct __sk_buff *ctx, const struct packet *packet, const union ct_key *key,
				       __u32 from)
{
	if (packet->is_error)
		return drop_unseen(ctx, packet, DROP_CT_INVALID);
	return decide(ctx, packet, key, from);
}

/* A packet of a known flow that couldn't be forwarded. */
static __noinline int refuse_known(struct __sk_buff *ctx, const struct packet *packet, const struct ct_entry *entry,
				   __u32 from, int reason)
{
	struct decision known = {};

	recall(&known, entry, from);
	return refuse(ctx, packet, &known, reason);
}

static __always_inline int pass(struct __sk_buff *ctx, struct packet *packet, __u32 source_ifindex)
{
	struct ct_entry *entry;
	struct ct_side *side;
	__u32 from, identity;
	union ct_key key;
	int action;

	from = ct_key_of(packet, &key);
	entry = find_flow(packet, &key);
	if (!entry)
		return pass_slowly(ctx, packet, &key, from);
	packet->is_known = true;
	side = from ? &entry->side[1] : &entry->side[0];
	identity = from ? entry->identity[1] : entry->identity[0];
	if (!is_from(side, identity, packet, source_ifindex) || !is_current(entry) || is_reopening(entry, packet))
		return pass_slowly(ctx, packet, &key, from);
	if (ct_account(entry, side, packet->tcp_flags, ctx->len))
		trace(ctx, packet, entry, from);
	action = forward(ctx, packet, side, identity);
	if (action < 0)
		return refuse_known(ctx, packet, entry, from, action);
	count(FORWARDED, packet->hook, ctx->len);
	return action;
}
