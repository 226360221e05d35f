/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv4 headers (RFC 791). */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/fragment.h"
#include "lib/l4.h"
#include "lib/packet.h"

#define MORE_FRAGMENTS    0x2000
#define FRAGMENT_OFFSET   0x1fff
#define MAX_OPTIONS_BYTES 40

enum {
	OPTION_END = 0,
	OPTION_NOOP = 1,
	OPTION_LOOSE_ROUTE = 131,
	OPTION_STRICT_ROUTE = 137,
};

/* Pass over the options from `offset` to `end`; those by which a packet goes another way than to
 * its destination are refused (RFC 7126, 4.3 and 4.4). Returns 0 or a verdict.
 *
 * Global, so that the verifier looks at it once, not for each length. */
__noinline int parse_options(struct __sk_buff *ctx, __u32 offset, __u32 end)
{
	__u8 option[2];

	for (int i = 0; i < MAX_OPTIONS_BYTES && offset < end; i++) {
		option[1] = 1;
		if (bpf_skb_load_bytes(ctx, offset, option, offset + 1 < end ? 2 : 1))
			return -DROP_INVALID_PACKET;
		if (option[0] == OPTION_END)
			return 0;
		if (option[0] == OPTION_LOOSE_ROUTE || option[0] == OPTION_STRICT_ROUTE)
			return -DROP_INVALID_EXTENSION;
		if (option[0] != OPTION_NOOP && option[1] < sizeof(option))
			return -DROP_INVALID_PACKET;
		offset += option[0] == OPTION_NOOP ? 1 : option[1];
	}
	return offset > end ? -DROP_INVALID_PACKET : 0;
}

/* Read an IPv4 header at the cursor and what is behind it; returns 0 or a verdict. `packet` is
 * filled as far as the headers could be read. */
static __always_inline int parse_ipv4(struct __sk_buff *ctx, struct packet *packet,
				      struct cursor *cursor, bool is_quoted)
{
	const struct iphdr *ip = header_at(ctx, cursor, sizeof(*ip));
	__u32 header, bytes, next;
	__be16 fragment;
	int verdict;

	if (!ip)
		return -DROP_INVALID_PACKET;
	packet->family = 4;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	packet->protocol = ip->protocol;
	header = ip->ihl * 4;
	fragment = ip->frag_off & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET);
	if (fragment)
		packet->fragment_id = ip->id;
	bytes = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip))
		return -DROP_INVALID_PACKET;
	if (bytes < header) {
		if (bytes || is_quoted || !is_big(ctx, cursor))
			return -DROP_INVALID_PACKET;
		bytes = ctx->len - cursor->offset;
	}
	if (!end_packet(ctx, cursor, bytes, is_quoted))
		return -DROP_INVALID_PACKET;
	if (!is_known_protocol(packet))
		return -DROP_UNKNOWN_L4;
	next = cursor->offset + header;
	if (header > sizeof(*ip)) {
		verdict = parse_options(ctx, cursor->offset + sizeof(*ip), next);
		if (verdict)
			return verdict;
	}
	cursor->offset = next;
	if (!fragment)
		return parse_l4(ctx, packet, cursor, is_quoted);
	return parse_fragment(ctx, packet, next, cursor->end,
			      (bpf_ntohs(fragment) & FRAGMENT_OFFSET) * 8 |
				  !!(fragment & bpf_htons(MORE_FRAGMENTS)));
}
