/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes once it may. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/encap.h"
#include "lib/event.h"
#include "lib/fragment.h"
#include "maps/conntrack.h"
#include "maps/metrics.h"

/* Into a pod, past the host's end of its link. `mac` is the pod's; it sees the gateway as the sender. */
static __always_inline int deliver(struct __sk_buff *ctx, __u32 ifindex, const __u8 *mac)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	__builtin_memcpy(ethernet->h_dest, mac, ETH_ALEN);
	write_gateway_mac(ethernet->h_source);
	return bpf_redirect_peer(ifindex, 0);
}

/* To this host's stack, whatever MAC address the sender took for the gateway's. */
static __always_inline int hand_up(struct __sk_buff *ctx)
{
	if (ctx->pkt_type != PACKET_HOST)
		bpf_skb_change_type(ctx, PACKET_HOST);
	return TC_ACT_OK;
}

/* Returns a TC action, or the negative of a drop reason. */
static __always_inline int forward(struct __sk_buff *ctx, const struct packet *packet, const struct ct_side *side,
				   __u32 identity)
{
	note_fragment(ctx, packet);
	if (packet->hook == HOOK_TO_POD)
		return TC_ACT_OK;
	if (side->tunnel)
		return encapsulate(ctx, packet, identity, side->tunnel);
	if (side->ifindex)
		return deliver(ctx, side->ifindex, side->mac);
	return hand_up(ctx);
}

/* What couldn't be forwarded, for a reason that `forward` gave, negative; returns a TC action. */
static __noinline int refuse(struct __sk_buff *ctx, const struct packet *packet, const struct decision *decision,
			     int reason)
{
	drop(ctx, packet, decision, -reason);
	return -reason == DROP_TOO_BIG ? answer_too_big(ctx, packet) : TC_ACT_SHOT;
}
