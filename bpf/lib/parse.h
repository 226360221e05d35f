/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Parsing of a frame: from its bytes to the fields of struct packet. */
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
#include "lib/ipv4.h"
#include "lib/ipv6.h"
#include "lib/l4.h"
#include "lib/locate.h"
#include "lib/packet.h"

/* Longest headers that are read of IPv4: Ethernet, IPv4 with options, TCP. */
#define HEADERS_BYTES (ETH_HLEN + 60 + TCP_HEADER_BYTES)
#define PLAIN_BYTES   (ETH_HLEN + sizeof(struct iphdr) + TCP_HEADER_BYTES)

/* Fields of an ICMP error that the packet that it quotes would take the place of. */
struct error_header {
	struct address source;
	struct address destination;
	__u16 offset;
	__u8 protocol;
	__u8 icmp_type;
};

/* Tell whether an error is about a packet that its receiver has sent; a pod says such a thing only
 * of what was sent to itself. `quoted` is the packet that it is about. */
static __always_inline bool is_about(const struct packet *quoted, const struct error_header *error)
{
	if (!is_same_address(&quoted->source, &error->destination))
		return false;
	return quoted->hook != HOOK_FROM_POD ||
	       is_same_address(&quoted->destination, &error->source);
}

/* Take an error for a reply to the packet that it quotes, which has been read. */
static __always_inline void turn_into_error(struct packet *packet, const struct error_header *error)
{
	__be16 port = packet->source_port;

	packet->source = packet->destination;
	packet->destination = error->destination;
	packet->source_port = packet->destination_port;
	packet->destination_port = port;
	packet->quoted = packet->fragment == FRAGMENT_LATER ? 0 : packet->offset;
	packet->offset = error->offset;
	packet->icmp_type = error->icmp_type;
	packet->fragment = FRAGMENT_NONE;
}

/* Device by which the fragments came that an error quotes one of: the link of the pod here that
 * sent them. */
static __noinline __u32 quoted_ifindex(struct __sk_buff *ctx, const struct packet *packet)
{
	struct location sender = {};

	return locate_local(&packet->source, &sender) ? sender.ifindex : ctx->ifindex;
}

/* Read the packet that an ICMP error quotes, from `offset` on, as any other; but its end may be
 * missing. Returns 0 or a verdict; the packet that is dropped is the error. */
static __noinline int parse_quoted(struct __sk_buff *ctx, struct packet *packet, __u32 offset,
				   __u32 end)
{
	struct cursor cursor = {.offset = offset, .end = end};
	struct error_header error = {
	    .source = packet->source,
	    .destination = packet->destination,
	    .offset = packet->offset,
	    .protocol = packet->protocol,
	    .icmp_type = packet->icmp_type,
	};
	__u32 headers = offset + sizeof(struct iphdr) + L4_PORTS_BYTES;
	int verdict;

	if (offset > MAX_L4_OFFSET)
		return -DROP_INVALID_PACKET;
	pull(ctx, headers, headers);
	verdict = packet->family == 6 ? parse_ipv6(ctx, packet, &cursor, true)
				      : parse_ipv4(ctx, packet, &cursor, true);
	if (!verdict && !is_about(packet, &error))
		verdict = -DROP_CT_INVALID;
	if (!verdict && packet->fragment == FRAGMENT_LATER)
		verdict = lookup_fragment(packet, quoted_ifindex(ctx, packet), LONGEST_PACKET);
	if (!verdict) {
		turn_into_error(packet, &error);
		return 0;
	}
	packet->source = error.source;
	packet->destination = error.destination;
	packet->protocol = error.protocol;
	packet->icmp_type = error.icmp_type;
	return verdict;
}

/* Read a frame's headers; returns 0 or a verdict. `packet` is zero on entry, but for its hook. */
static __always_inline int parse(struct __sk_buff *ctx, struct packet *packet)
{
	struct cursor cursor = {.end = FRAME_END};
	const struct ethhdr *ethernet;
	int verdict;

	pull(ctx, PLAIN_BYTES, HEADERS_BYTES);
	ethernet = header_at(ctx, &cursor, sizeof(*ethernet));
	if (!ethernet)
		return -DROP_UNKNOWN_L3;
	cursor.offset += sizeof(*ethernet);
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		verdict = parse_ipv4(ctx, packet, &cursor, false);
	else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		verdict = parse_ipv6(ctx, packet, &cursor, false);
	else
		return -DROP_UNKNOWN_L3;
	if (verdict || !packet->is_error)
		return verdict;
	return parse_quoted(ctx, packet, packet->offset + sizeof(struct icmp_echo), cursor.end);
}

/* Parse in a function of its own: for programs in whose frame the stack has no room for it. */
static __noinline int parse_apart(struct __sk_buff *ctx, struct packet *packet)
{
	return parse(ctx, packet);
}
