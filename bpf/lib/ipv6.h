/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/drop.h"
#include "lib/fragment.h"
#include "lib/l4.h"
#include "lib/packet.h"

/* Extension headers (RFC 8200, section 4). */
enum {
	IPV6_HOP_BY_HOP = 0,
	IPV6_ROUTING = 43,
	IPV6_FRAGMENT = 44,
	IPV6_DESTINATION = 60,
};

#define MAX_EXTENSIONS       4
#define IPV6_MORE_FRAGMENTS  1
#define IPV6_FRAGMENT_OFFSET 0xfff8

/* What all extension headers begin with; `bytes` counts in units of 8 behind the first 8. */
struct ipv6_extension {
	__u8 next;
	__u8 length;
	__be16 fragment; /* only in a fragment header, whose length is always 8 */
	__be32 id;
};

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPV6_HOP_BY_HOP || protocol == IPV6_ROUTING || protocol == IPV6_FRAGMENT ||
	       protocol == IPV6_DESTINATION;
}

/* Go past the extension headers at `offset`, and leave the protocol behind them in `packet`. Of a later fragment
 * nothing is read behind its fragment header. Returns 0 or a drop reason. */
static __noinline int parse_extensions(struct __sk_buff *ctx, struct packet *packet, __u32 offset)
{
	struct ipv6_extension header;
	bool has_fragment = false;
	__u32 start = 0;

	for (int i = 0; i < MAX_EXTENSIONS && is_extension(packet->protocol) && !start; i++) {
		if (bpf_skb_load_bytes(ctx, offset, &header, sizeof(header)))
			return DROP_INVALID_PACKET;
		if (packet->protocol == IPV6_FRAGMENT) {
			if (has_fragment)
				return DROP_INVALID_EXTENSION;
			has_fragment = true;
			start = bpf_ntohs(header.fragment) & IPV6_FRAGMENT_OFFSET;
			packet->fragment_id = header.id;
			if (bpf_ntohs(header.fragment) & (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS))
				packet->fragment = start ? FRAGMENT_LATER : FRAGMENT_FIRST;
			offset += sizeof(header);
		} else {
			offset += sizeof(header) + header.length * 8;
		}
		packet->protocol = header.next;
	}
	if (offset > MAX_L4_OFFSET || is_extension(packet->protocol))
		return DROP_INVALID_EXTENSION;
	if (!is_known_protocol(packet))
		return DROP_UNKNOWN_L4;
	pull(ctx, offset + TCP_HEADER_BYTES);
	if (packet->fragment)
		return parse_fragment(ctx, packet, start, offset);
	return parse_l4(ctx, packet, offset);
}

/* Returns 0 or a drop reason. `packet` is filled as far as the headers could be read. */
static __always_inline int parse_ipv6(struct __sk_buff *ctx, struct packet *packet)
{
	const struct ipv6hdr *ip;

	pull(ctx, ETH_HLEN + sizeof(*ip) + TCP_HEADER_BYTES);
	ip = (void *)(long)ctx->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	packet->family = 6;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	if (ip->version != 6)
		return DROP_INVALID_PACKET;
	if (is_extension(packet->protocol))
		return parse_extensions(ctx, packet, ETH_HLEN + sizeof(*ip));
	if (!is_known_protocol(packet))
		return DROP_UNKNOWN_L4;
	return parse_l4(ctx, packet, ETH_HLEN + sizeof(*ip));
}
