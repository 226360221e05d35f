/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>

#include "lib/address.h"
#include "lib/drop.h"
#include "lib/fragment.h"
#include "lib/l4.h"
#include "lib/packet.h"

#define MORE_FRAGMENTS  0x2000
#define FRAGMENT_OFFSET 0x1fff

/* Returns 0 or a drop reason. `packet` is filled as far as the headers could be read. */
static __always_inline int parse_ipv4(struct __sk_buff *ctx, struct packet *packet)
{
	const struct iphdr *ip = (void *)(long)ctx->data + ETH_HLEN;
	__u32 header, start;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	packet->family = 4;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return DROP_INVALID_PACKET;
	if (!is_known_protocol(packet))
		return DROP_UNKNOWN_L4;
	if (ip->frag_off & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET)) {
		start = (bpf_ntohs(ip->frag_off) & FRAGMENT_OFFSET) * 8;
		packet->fragment_id = ip->id;
		return parse_fragment(ctx, packet, start, ETH_HLEN + header);
	}
	return parse_l4(ctx, packet, ETH_HLEN + header);
}
