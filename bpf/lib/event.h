/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reports of verdicts, drops and flows that go on, through the ring buffer cilia_events. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/budget.h"
#include "lib/config.h"
#include "lib/count.h"
#include "lib/packet.h"
#include "maps/event.h"

/* Pending bytes at whose multiples the reader is woken; for what is less it comes by itself. A
 * wake-up costs the sender some 6 us, twenty times what dropping a packet and reporting it does
 * otherwise. A power of two. */
#define WAKE_BYTES   (1 << 16)
#define RECORD_BYTES (sizeof(struct event) + BPF_RINGBUF_HDR_SZ)

/* Findings about a packet that its report tells beside its headers. */
struct findings {
	__u32 identity[2]; /* source's, destination's */
	__u32 link;        /* device of the pod concerned; 0: not known */
	__u16 endpoint[2]; /* ids of those that are local */
	__u32 cookie;      /* deciding policy's; 0: none */
	__u8 direction;    /* enum policy_direction: the side that decided */
	__u8 audited;
	__u8 is_reply;
	__u8 pad;
};

/* Findings about a packet whose ends aren't known; read-only data, since the stack is short. */
static const struct findings NO_FINDINGS = {};

/* Flags of a submission: it wakes the reader if it brings the pending bytes across a multiple of
 * WAKE_BYTES. Two CPUs that report at the same time may both see it crossed, or neither; then the
 * reader comes by itself, or at the next multiple. */
static __always_inline __u64 wake_flags(void)
{
	__u64 pending = bpf_ringbuf_query(&cilia_events, BPF_RB_AVAIL_DATA);

	if (pending >= WAKE_BYTES && pending % WAKE_BYTES < RECORD_BYTES)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Tell whether a packet may be reported, at the cost of the pod that sends it or, if it comes from
 * elsewhere, is to get it. */
static __always_inline bool is_within_limit(struct __sk_buff *ctx, const struct packet *packet,
					    const struct findings *findings)
{
	__u32 link = ctx->ifindex;

	if (!event_rate)
		return true;
	barrier_var(link); /* else the load is put off, to a pointer that may be either's */
	if (packet->hook != HOOK_FROM_POD && packet->hook != HOOK_TO_POD)
		link = findings->link;
	return spend_report(link, packet->hook);
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

static __always_inline void fill_findings(struct event *event, const struct findings *findings)
{
	event->direction = findings->direction;
	event->audited = findings->audited;
	event->is_reply = findings->is_reply;
	event->identity[0] = findings->identity[0];
	event->identity[1] = findings->identity[1];
	event->endpoint[0] = findings->endpoint[0];
	event->endpoint[1] = findings->endpoint[1];
	event->cookie = findings->cookie;
}

/* Report a packet; one that finds no room, or is above a limit, is counted instead. */
static __always_inline void report(struct __sk_buff *ctx, const struct packet *packet,
				   const struct findings *findings, __u32 kind, __u32 reason)
{
	struct event *event;
	__u64 flags;

	if (!is_within_limit(ctx, packet, findings)) {
		count(LIMITED_EVENT, packet->hook, sizeof(*event));
		return;
	}
	flags = wake_flags();
	event = bpf_ringbuf_reserve(&cilia_events, sizeof(*event), 0);
	if (!event) {
		count(LOST_EVENT, packet->hook, sizeof(*event));
		return;
	}
	event->time_ns = bpf_ktime_get_ns();
	event->kind = kind;
	event->reason = reason;
	event->length = ctx->len;
	event->ifindex = ctx->ifindex;
	event->pad[0] = event->pad[1] = event->pad[2] = 0;
	fill_packet(event, packet);
	fill_findings(event, findings);
	bpf_ringbuf_submit(event, flags);
}
