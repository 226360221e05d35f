/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Encapsulation by the VXLAN device: the sender's identity travels as the tunnel's key. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/drop_reasons.h"
#include "lib/packet.h"
#include "lib/pmtu.h"
#include "maps/identity.h"

#define TUNNEL_TTL 64
#define TUNNEL_KEY_BYTES                                                                           \
	offsetof(struct bpf_tunnel_key, local_ipv4) /* fields on which 6.1 and later agree */

/* Tell whether a packet is for the tunnel's port, where nodes take packets for each other's. */
static __always_inline bool is_to_tunnel(const struct packet *packet)
{
	return packet->protocol == IPPROTO_UDP &&
	       packet->destination_port == bpf_htons(tunnel_port);
}

/* Have the VXLAN device send a packet to a node; returns 0 or a verdict. It leaves from the address
 * that the stack chooses: while a node moves from one address to another, others know the former.
 */
static __always_inline int set_tunnel(struct __sk_buff *ctx, __u32 identity, __be32 node)
{
	struct bpf_tunnel_key key = {
	    .tunnel_id = identity,
	    .remote_ipv4 = bpf_ntohl(node),
	    .tunnel_ttl = TUNNEL_TTL,
	};

	return bpf_skb_set_tunnel_key(ctx, &key, TUNNEL_KEY_BYTES, BPF_F_ZERO_CSUM_TX)
		   ? -DROP_NO_OVERLAY
		   : 0;
}

/* Send a packet that fits to a node through the tunnel; returns a verdict. */
static __always_inline int send_by_tunnel(struct __sk_buff *ctx, __u32 identity, __be32 node)
{
	if (!overlay_ifindex || set_tunnel(ctx, identity, node))
		return -DROP_NO_OVERLAY;
	return bpf_redirect(overlay_ifindex, 0);
}

/* Send a packet to a node through the tunnel; returns a verdict. */
static __always_inline int encapsulate(struct __sk_buff *ctx, const struct packet *packet,
				       __u32 identity, __be32 node)
{
	return is_too_big(ctx, packet) ? -DROP_TOO_BIG : send_by_tunnel(ctx, identity, node);
}

/* Read who sent a packet, and from which node; false if it doesn't come by the tunnel. A host that
 * sends through the tunnel is another node's, and not ours, whatever it calls itself. */
static __always_inline bool read_tunnel(struct __sk_buff *ctx, struct packet *packet)
{
	struct bpf_tunnel_key key = {};

	if (bpf_skb_get_tunnel_key(ctx, &key, TUNNEL_KEY_BYTES, 0) || !key.tunnel_id)
		return false;
	packet->identity = key.tunnel_id == IDENTITY_HOST ? IDENTITY_REMOTE_NODE : key.tunnel_id;
	packet->tunnel = bpf_htonl(key.remote_ipv4);
	return true;
}
