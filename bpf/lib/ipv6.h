/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv6 headers and their extensions (RFC 8200). */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/cursor.h"
#include "lib/drop_reasons.h"
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

/* First 8 bytes of any extension header; `length` counts in units of 8 behind them. */
struct ipv6_extension {
	__u8 next;
	__u8 length;
	__be16 fragment; /* only in a fragment header, whose length is always 8 */
	__be32 id;
};

static __always_inline bool is_extension(__u8 protocol)
{
	return protocol == IPV6_HOP_BY_HOP || protocol == IPV6_ROUTING ||
	       protocol == IPV6_FRAGMENT || protocol == IPV6_DESTINATION;
}

/* Go past the extension headers at `offset`, leave the protocol behind them in `packet`, and read
 * its header; but of a later fragment nothing behind its fragment header. Returns 0 or a verdict.
 */
static __noinline int parse_extensions(struct __sk_buff *ctx, struct packet *packet, __u32 offset,
				       __u32 end)
{
	struct cursor cursor = {.offset = offset, .end = end};
	struct ipv6_extension header;
	bool has_fragment = false;
	__u32 start = 0;

	for (int i = 0; i < MAX_EXTENSIONS && is_extension(packet->protocol) && !start; i++) {
		if (bpf_skb_load_bytes(ctx, cursor.offset, &header, sizeof(header)))
			return -DROP_INVALID_PACKET;
		if (packet->protocol == IPV6_FRAGMENT) {
			if (has_fragment)
				return -DROP_INVALID_EXTENSION;
			has_fragment = true;
			start = bpf_ntohs(header.fragment) & IPV6_FRAGMENT_OFFSET;
			packet->fragment_id = header.id;
			if (bpf_ntohs(header.fragment) &
			    (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS))
				packet->fragment = start ? FRAGMENT_LATER : FRAGMENT_FIRST;
			cursor.offset += sizeof(header);
		} else {
			cursor.offset += sizeof(header) + header.length * 8;
		}
		packet->protocol = header.next;
	}
	if (cursor.offset > MAX_L4_OFFSET || is_extension(packet->protocol))
		return -DROP_INVALID_EXTENSION;
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	pull(ctx, cursor.offset + TCP_HEADER_BYTES, cursor.offset + TCP_HEADER_BYTES);
	if (packet->fragment)
		return parse_fragment(ctx, packet, &cursor, start);
	return parse_l4(ctx, packet, &cursor);
}

/* Read an IPv6 header at the cursor and what is behind it; returns 0 or a verdict. `packet` is
 * filled as far as the headers could be read. */
static __always_inline int parse_ipv6(struct __sk_buff *ctx, struct packet *packet,
				      struct cursor *cursor)
{
	__u32 headers = cursor->offset + sizeof(struct ipv6hdr) + TCP_HEADER_BYTES;
	const struct ipv6hdr *ip;

	pull(ctx, headers, headers);
	ip = header_at(ctx, cursor, sizeof(*ip));
	if (!ip)
		return -DROP_INVALID_PACKET;
	packet->family = 6;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->protocol = ip->nexthdr;
	if (ip->version != 6)
		return -DROP_INVALID_PACKET;
	cursor->offset += sizeof(*ip);
	if (is_extension(packet->protocol))
		return parse_extensions(ctx, packet, cursor->offset, cursor->end);
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	return parse_l4(ctx, packet, cursor);
}
