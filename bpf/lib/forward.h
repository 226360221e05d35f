/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Forwarding of packets that may pass: into a pod, into the tunnel, or to this host's stack; and
 * their exit. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/count.h"
#include "lib/cursor.h"
#include "lib/encap.h"
#include "lib/fragment.h"
#include "maps/conntrack.h"
#include "maps/metrics.h"

/* Exit of every packet that isn't dropped: count it, and return the TC action. */
static __always_inline int forwarded(struct __sk_buff *ctx, const struct packet *packet, int action)
{
	count(FORWARDED, packet->hook, ctx->len);
	return action;
}

/* Deliver to a pod, past the host's end of its link; it sees the gateway as the sender. */
static __always_inline int deliver_to_pod(struct __sk_buff *ctx, const struct ct_side *side)
{
	struct ethhdr *ethernet = frame_bytes(ctx, sizeof(*ethernet));

	if (!ethernet)
		return -DROP_INVALID_PACKET;
	__builtin_memcpy(ethernet->h_dest, side->mac, ETH_ALEN);
	write_gateway_mac(ethernet->h_source);
	return bpf_redirect_peer(side->ifindex, 0);
}

/* Deliver to this host's stack, whatever MAC address the sender took for the gateway's. */
static __always_inline int deliver_to_host(struct __sk_buff *ctx)
{
	if (ctx->pkt_type != PACKET_HOST)
		bpf_skb_change_type(ctx, PACKET_HOST);
	return TC_ACT_OK;
}

/* Forward a packet of a flow where its side says; returns a verdict. */
static __always_inline int forward(struct __sk_buff *ctx, const struct packet *packet,
				   const struct ct_side *side, __u32 identity)
{
	track_fragment(ctx, packet);
	if (packet->hook == HOOK_TO_POD)
		return TC_ACT_OK;
	if (side->tunnel)
		return encapsulate(ctx, packet, identity, side->tunnel);
	if (side->ifindex)
		return deliver_to_pod(ctx, side);
	return deliver_to_host(ctx);
}
