/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Path of a packet through any of the programs: one lookup if its flow is known and current. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/decide.h"
#include "lib/denial.h"
#include "lib/drop.h"
#include "lib/ending.h"
#include "lib/event.h"
#include "lib/forward.h"
#include "lib/locate.h"

/* Tell whether the packet comes from where the flow's packets come from, and its sender is who it
 * was, behind the node to which packets `back` go. What a pod may never send is from nowhere. */
static __always_inline bool is_from(const struct ct_side *side, const struct ct_side *back,
				    __u32 identity, const struct packet *packet,
				    __u32 source_ifindex)
{
	if (side->source_ifindex != source_ifindex)
		return false;
	if (packet->hook == HOOK_FROM_POD)
		return !is_to_tunnel(packet);
	if (packet->hook != HOOK_FROM_OVERLAY)
		return true;
	if (!is_sent_by(packet, back->tunnel))
		return false;
	if (packet->identity == identity)
		return true;
	return packet->identity == IDENTITY_REMOTE_NODE && is_remote_node(identity);
}

/* Take the slow path. An error is no beginning, and nothing is decided anew on its account. */
static __always_inline int pass_slowly(struct __sk_buff *ctx, const struct packet *packet,
				       const union ct_key *key, __u32 from)
{
	if (packet->is_error)
		return drop(ctx, packet, NULL, -DROP_CT_INVALID);
	return decide(ctx, packet, key, from);
}

/* Findings that a known flow remembers, about a packet that side `from` sent. */
static __always_inline void recall_findings(struct findings *findings, const struct ct_entry *entry,
					    __u32 from)
{
	findings->identity[0] = identity_of(entry, from);
	findings->identity[1] = identity_of(entry, !from);
	findings->is_reply = entry->initiator != from;
	findings->link = from ? entry->side[1].ifindex : entry->side[0].ifindex;
	findings->cookie = entry->cookie;
	findings->direction = entry->direction;
}

/* Report that an established flow goes on. */
static __noinline void trace(struct __sk_buff *ctx, const struct packet *packet,
			     const struct ct_entry *entry, __u32 from)
{
	struct findings known = {};

	recall_findings(&known, entry, from);
	report(ctx, packet, &known, EVENT_TRACE, 0);
}

/* Drop a packet of a known flow; a function of its own for the room that findings take on the
 * stack. */
static __noinline int drop_known(struct __sk_buff *ctx, const struct packet *packet,
				 const struct ct_entry *entry, __u32 from, int verdict)
{
	struct findings known = {};

	recall_findings(&known, entry, from);
	return drop_of_flow(ctx, packet, &known, verdict);
}

/* Drop a packet of a flow that is denied, and keep the flow. */
static __always_inline int drop_denied(struct __sk_buff *ctx, const struct packet *packet,
				       struct ct_entry *entry, __u32 from)
{
	entry->last_seen = coarse_now();
	return drop_known(ctx, packet, entry, from, -(int)entry->reason);
}

/* Pass a packet of a flow, or decide about it; returns a TC action. `source_ifindex`: as in struct
 * ct_side. */
static __always_inline int pass(struct __sk_buff *ctx, struct packet *packet, __u32 source_ifindex)
{
	struct ct_entry *entry;
	struct ct_side *side;
	__u32 from, identity, generation, tag;
	union ct_key key;
	int verdict;

	from = ct_key_of(packet, &key);
	entry = lookup_flow(packet, &key);
	if (!entry)
		return drop_remembered(ctx, packet) ? TC_ACT_SHOT
						    : pass_slowly(ctx, packet, &key, from);
	packet->is_known = true;
	side = side_of(entry, from);
	identity = identity_of(entry, from);
	generation = *(volatile __u32 *)&entry->generation;
	if (!is_from(side, side_of(entry, !from), identity, packet, source_ifindex) ||
	    is_reopening(entry, packet, from))
		return pass_slowly(ctx, packet, &key, from);
	tag = tag_of(packet->family, &key);
	if (entry->state & CT_DENIED && is_stamped(entry->stamp, change_word(), tag))
		return drop_denied(ctx, packet, entry, from);
	if (entry->state & CT_DENIED || !is_current(generation, entry, tag))
		return pass_slowly(ctx, packet, &key, from);
	if (needs_care(entry, packet))
		follow_ending(ctx, packet, entry, from);
	if (ct_account(entry, side, packet->tcp_flags, packet->acknowledged, ctx->len))
		trace(ctx, packet, entry, from);
	verdict = forward(ctx, packet, side, identity);
	if (*(volatile __u32 *)&entry->generation != generation)
		verdict = -DROP_CT_REUSED;
	if (verdict < 0)
		return drop_known(ctx, packet, entry, from, verdict);
	return forwarded(ctx, packet, verdict);
}
