/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv4 headers (RFC 791); options are passed over. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>

#include "lib/address.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/fragment.h"
#include "lib/l4.h"
#include "lib/packet.h"

#define MORE_FRAGMENTS  0x2000
#define FRAGMENT_OFFSET 0x1fff

/* Read an IPv4 header at the cursor and what is behind it; returns 0 or a verdict. `packet` is
 * filled as far as the headers could be read. */
static __always_inline int parse_ipv4(struct __sk_buff *ctx, struct packet *packet,
				      struct cursor *cursor)
{
	const struct iphdr *ip = header_at(ctx, cursor, sizeof(*ip));
	__u32 header;

	if (!ip)
		return -DROP_INVALID_PACKET;
	packet->family = 4;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return -DROP_INVALID_PACKET;
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	cursor->offset += header;
	if (ip->frag_off & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET)) {
		packet->fragment_id = ip->id;
		return parse_fragment(ctx, packet, cursor,
				      (bpf_ntohs(ip->frag_off) & FRAGMENT_OFFSET) * 8);
	}
	return parse_l4(ctx, packet, cursor);
}
