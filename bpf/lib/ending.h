/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ends of TCP connections. Whoever can forge an address can send a RST or a FIN, but not what the
 * other end, which lives here, acknowledges: one is believed by its numbers (as RFC 5961 has it for
 * the ends themselves), and is passed on in any case.
 *
 * Two CPUs that carry one flow at the same time may lose a change of its state: it then keeps its
 * longer lifetime.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/l4.h"
#include "lib/packet.h"
#include "maps/conntrack.h"

/* Longest distance in bytes between a RST or FIN and what the other end has acknowledged: what is
 * on its way. A blind guess hits it once in 32,768 to 65,536 times. */
#define NEAR_BYTES (1 << 16)

/* Tell whether a packet, or its flow, is of a kind that is rare once a connection is established.
 */
static __always_inline bool needs_care(const struct ct_entry *entry, const struct packet *packet)
{
	return entry->state & CT_CARE || packet->tcp_flags & RARE_TCP_FLAGS;
}

static __always_inline __u8 ended(__u32 side)
{
	return side ? CT_ENDED_1 : CT_ENDED_0;
}

/* State once what `sender` sends to `receiver` may have come to its end. `fin`: the latter's number
 * is known; `acknowledged`: what the receiver has. */
static __always_inline __u8 judge_fin(__u8 state, __u8 end, __u8 sender_flags, __u32 fin,
				      __u8 receiver_flags, __u32 acknowledged)
{
	if (!(sender_flags & TCP_FIN) || state & end)
		return state;
	if (receiver_flags & TCP_ACK && acknowledged - fin + NEAR_BYTES < 2 * NEAR_BYTES)
		return state | end;
	return state | CT_ENDING;
}

/* State of a flow that was reset, or goes on after a RST that was wrongly believed. */
static __always_inline __u8 judge_reset(__u8 state, __u8 flags, __u32 sequence,
					const struct ct_side *other)
{
	if (!(flags & TCP_RST))
		return flags ? state & ~CT_RESET : state;
	if (!(other->tcp_flags & TCP_ACK) || sequence - other->acknowledged < NEAR_BYTES)
		return state | CT_RESET;
	return state;
}

/* Follow what a packet from side `from` of a TCP flow says of its end; to be called before the
 * packet is accounted for. */
static __noinline void follow_ending(struct __sk_buff *ctx, const struct packet *packet,
				     struct ct_entry *entry, __u32 from)
{
	struct ct_side *side = side_of(entry, from), *other = side_of(entry, !from);
	__u8 state = entry->state & ~CT_ENDING, flags = packet->tcp_flags;
	__u32 acknowledged = side->acknowledged;
	__be32 number = 0;
	__u32 sequence;

	if (flags & (TCP_FIN | TCP_RST) &&
	    bpf_skb_load_bytes(ctx, packet->offset + TCP_SEQUENCE_OFFSET, &number, sizeof(number)))
		return;
	sequence = bpf_ntohl(number);
	if (flags & TCP_ACK)
		acknowledged = bpf_ntohl(packet->acknowledged);
	state = judge_reset(state, flags, sequence, other);
	if (flags & TCP_FIN && !(state & ended(from)))
		side->fin = sequence;
	flags |= side->tcp_flags;
	state =
	    judge_fin(state, ended(from), flags, side->fin, other->tcp_flags, other->acknowledged);
	state = judge_fin(state, ended(!from), other->tcp_flags, other->fin, flags, acknowledged);
	if (state != entry->state)
		entry->state = state;
}
