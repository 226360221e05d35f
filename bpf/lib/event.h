/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The one exit of what is dropped, and the reports of what was decided. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/count.h"
#include "lib/drop.h"
#include "lib/end.h"
#include "lib/packet.h"
#include "maps/conntrack.h"
#include "maps/event.h"

/* The reader is woken once in so many bytes; what is less it finds when it looks by itself. A wake-up costs the sender
 * some 6 us, twenty times what dropping a packet and reporting it does otherwise. A power of two. */
#define WAKE_BYTES   (1 << 16)
#define RECORD_BYTES (sizeof(struct event) + BPF_RINGBUF_HDR_SZ)

/* What was found out about a packet and decided about its flow. */
struct decision {
	struct end source;
	struct end destination;
	__u32 generation;
	__u32 cookie;
	__u8 direction; /* enum policy_direction */
	__u8 audited;
	__u8 initiator; /* end of the flow's key */
	__u8 is_reply;
};

/* Whoever brings the pending bytes across a multiple of WAKE_BYTES wakes the reader. Two CPUs that report at the same
 * time may both see it crossed, or neither; then the reader comes by itself, or at the next multiple. */
static __always_inline __u64 wake_flags(void)
{
	__u64 pending = bpf_ringbuf_query(&cilia_events, BPF_RB_AVAIL_DATA);

	if (pending >= WAKE_BYTES && pending % WAKE_BYTES < RECORD_BYTES)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Tell whether this CPU may report now, and note that it does. */
static __always_inline bool is_within_limit(__u64 now_ns)
{
	__u32 zero = 0;
	__u64 *spent = bpf_map_lookup_elem(&cilia_event_budget, &zero);
	__u64 start;

	if (!spent)
		return true;
	start = *spent > now_ns ? *spent : now_ns;
	if (start - now_ns > event_burst_ns)
		return false;
	*spent = start + event_cost_ns;
	return true;
}

static __always_inline void fill_packet(struct event *event, const struct packet *packet)
{
	event->family = packet->family;
	event->protocol = packet->protocol;
	event->tcp_flags = packet->tcp_flags;
	event->hook = packet->hook;
	event->port[0] = is_icmp(packet) ? 0 : packet->source_port;
	event->port[1] = is_icmp(packet) ? bpf_htons(packet->icmp_type) : packet->destination_port;
	event->source = packet->source;
	event->destination = packet->destination;
}

static __always_inline void fill_decision(struct event *event, const struct decision *decision)
{
	event->direction = decision->direction;
	event->audited = decision->audited;
	event->is_reply = decision->is_reply;
	event->identity[0] = decision->source.identity;
	event->identity[1] = decision->destination.identity;
	event->endpoint[0] = decision->source.endpoint;
	event->endpoint[1] = decision->destination.endpoint;
	event->cookie = decision->cookie;
}

static __always_inline void report(struct __sk_buff *ctx, const struct packet *packet, const struct decision *decision,
				   __u32 kind, __u32 reason)
{
	__u64 now_ns = bpf_ktime_get_ns(), flags;
	struct event *event;

	if (event_cost_ns && !is_within_limit(now_ns)) {
		count(LIMITED_EVENT, packet->hook, sizeof(*event));
		return;
	}
	flags = wake_flags();
	event = bpf_ringbuf_reserve(&cilia_events, sizeof(*event), 0);
	if (!event) {
		count(LOST_EVENT, packet->hook, sizeof(*event));
		return;
	}
	event->time_ns = now_ns;
	event->kind = kind;
	event->reason = reason;
	event->length = ctx->len;
	event->ifindex = ctx->ifindex;
	event->pad[0] = event->pad[1] = event->pad[2] = 0;
	fill_packet(event, packet);
	fill_decision(event, decision);
	bpf_ringbuf_submit(event, flags);
}

static __noinline int drop(struct __sk_buff *ctx, const struct packet *packet, const struct decision *decision,
			   __u32 reason)
{
	count(reason, packet->hook, ctx->len);
	report(ctx, packet, decision, EVENT_DROP, reason);
	return TC_ACT_SHOT;
}

/* Drop what was not looked at far enough to know its ends. */
static __noinline int drop_unseen(struct __sk_buff *ctx, const struct packet *packet, __u32 reason)
{
	struct decision nothing = {};

	return drop(ctx, packet, &nothing, reason);
}

/* What a known flow remembers of its ends; `from` is the end that sent the packet. */
static __always_inline void recall(struct decision *decision, const struct ct_entry *entry, __u32 from)
{
	decision->source.identity = from ? entry->identity[1] : entry->identity[0];
	decision->destination.identity = from ? entry->identity[0] : entry->identity[1];
	decision->is_reply = entry->initiator != from;
}

/* Report that an established flow goes on. */
static __noinline void trace(struct __sk_buff *ctx, const struct packet *packet, const struct ct_entry *entry,
			     __u32 from)
{
	struct decision known = {};

	recall(&known, entry, from);
	report(ctx, packet, &known, EVENT_TRACE, 0);
}
