/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv6 headers and their extensions (RFC 8200). */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
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

#define MAX_EXTENSIONS 4

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

/* Go past the extension headers at the cursor, leave the protocol behind them in `packet`, and read
 * its header. Refused are those by which a packet goes another way than to its destination (RFC
 * 5095), more than MAX_EXTENSIONS, one for each hop that isn't the first, and any behind a fragment
 * header, where a first fragment's may end in the next one (RFC 7112). Returns 0 or a verdict. */
static __noinline int parse_extensions(struct __sk_buff *ctx, struct packet *packet, __u32 offset,
				       __u32 end)
{
	struct cursor cursor = {.offset = offset, .end = end};
	struct ipv6_extension header = {};
	__u32 fragment = 0;
	bool is_last = false;

	for (int i = 0; i < MAX_EXTENSIONS && is_extension(packet->protocol) && !is_last; i++) {
		if (packet->protocol == IPV6_ROUTING || (i && packet->protocol == IPV6_HOP_BY_HOP))
			return -DROP_INVALID_EXTENSION;
		if (cursor.offset + sizeof(header) > end ||
		    bpf_skb_load_bytes(ctx, cursor.offset, &header, sizeof(header)))
			return -DROP_INVALID_PACKET;
		is_last = packet->protocol == IPV6_FRAGMENT;
		cursor.offset += sizeof(header) + (is_last ? 0 : header.length * 8);
		packet->protocol = header.next;
	}
	if (cursor.offset > MAX_L4_OFFSET || is_extension(packet->protocol))
		return -DROP_INVALID_EXTENSION;
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	pull(ctx, cursor.offset + TCP_HEADER_BYTES, cursor.offset + TCP_HEADER_BYTES);
	if (is_last)
		fragment = bpf_ntohs(header.fragment) & (FRAGMENT_START | HAS_MORE_FRAGMENTS);
	if (!fragment)
		return parse_l4(ctx, packet, &cursor, packet->is_error);
	packet->fragment_id = header.id;
	return parse_fragment(ctx, packet, cursor.offset, end, fragment);
}

/* Read an IPv6 header at the cursor and what is behind it; returns 0 or a verdict. `packet` is
 * filled as far as the headers could be read. */
static __always_inline int parse_ipv6(struct __sk_buff *ctx, struct packet *packet,
				      struct cursor *cursor, bool is_quoted)
{
	__u32 headers = cursor->offset + sizeof(struct ipv6hdr) + TCP_HEADER_BYTES;
	const struct ipv6hdr *ip;
	__u32 bytes;

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
	bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (!ip->payload_len) {
		if (is_quoted || !is_big(ctx, cursor))
			return -DROP_INVALID_PACKET;
		bytes = ctx->len - cursor->offset;
	}
	if (!end_packet(ctx, cursor, bytes, is_quoted))
		return -DROP_INVALID_PACKET;
	if (is_ipv4(&packet->source) || is_ipv4(&packet->destination))
		return -DROP_INVALID_ADDRESS;
	cursor->offset += sizeof(*ip);
	if (is_extension(packet->protocol))
		return parse_extensions(ctx, packet, cursor->offset, cursor->end);
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	return parse_l4(ctx, packet, cursor, is_quoted);
}
