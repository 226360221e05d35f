/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fragments: the first one of a packet tells the ports of the others, which must come after it. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/l4.h"
#include "lib/packet.h"
#include "maps/fragment.h"

#define HAS_MORE_FRAGMENTS 1
#define FRAGMENT_START     0xfff8

static __always_inline void fragment_key_of(const struct packet *packet, __u32 ifindex,
					    struct fragment_key *key)
{
	key->source = packet->source;
	key->destination = packet->destination;
	key->id = packet->fragment_id;
	key->ifindex = ifindex;
	key->protocol = packet->protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
}

/* Length of a fragment's payload, by its IP header, which has been read. */
static __always_inline __u32 payload_bytes(struct __sk_buff *ctx, const struct packet *packet)
{
	bool is_ipv6 = packet->family == 6;
	__u32 header = packet->offset - ETH_HLEN;
	__be16 bytes = 0;

	bpf_skb_load_bytes(ctx,
			   ETH_HLEN + (is_ipv6 ? offsetof(struct ipv6hdr, payload_len)
					       : offsetof(struct iphdr, tot_len)),
			   &bytes, sizeof(bytes));
	return bpf_ntohs(bytes) + (is_ipv6 ? sizeof(struct ipv6hdr) : 0) - header;
}

/* Record the ports of a first fragment; without room for them the others are dropped as unknown. */
static __noinline __attribute__((unused)) void record_fragment(struct __sk_buff *ctx,
							       const struct packet *packet)
{
	struct fragment_ports ports = {
	    .source = packet->source_port,
	    .destination = packet->destination_port,
	    .bytes = payload_bytes(ctx, packet),
	};
	struct fragment_key key;

	fragment_key_of(packet, ctx->ifindex, &key);
	bpf_map_update_elem(&cilia_fragments, &key, &ports, BPF_ANY);
}

static __always_inline void track_fragment(struct __sk_buff *ctx, const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_FIRST)
		record_fragment(ctx, packet);
}

/* Fill in the ports of a fragment that came by a device, and whose payload begins `start` bytes
 * into the whole one's; returns 0 or a verdict. */
static __noinline int lookup_fragment(struct packet *packet, __u32 ifindex, __u32 start)
{
	const struct fragment_ports *ports;
	struct fragment_key key;

	fragment_key_of(packet, ifindex, &key);
	ports = bpf_map_lookup_elem(&cilia_fragments, &key);
	if (!ports)
		return -DROP_FRAGMENT_UNKNOWN;
	if (start < ports->bytes)
		return -DROP_INVALID_FRAGMENT;
	packet->source_port = ports->source;
	packet->destination_port = ports->destination;
	if (is_icmp(packet))
		packet->icmp_type = ports->source ? echo_type(packet) : echo_reply_type(packet);
	return 0;
}

/* Length of the header at the cursor, which has been read as that of a first fragment. */
static __always_inline __u32 l4_header_bytes(struct __sk_buff *ctx, const struct packet *packet)
{
	__u8 words = 0;

	if (packet->protocol != IPPROTO_TCP)
		return L4_PORTS_BYTES;
	bpf_skb_load_bytes(ctx, packet->offset + TCP_LENGTH_OFFSET, &words, sizeof(words));
	return (words >> 4) * 4;
}

/* Read a first fragment, which has its header whole (RFC 7112; RFC 1858, 3); an error that doesn't
 * fit into one packet is none. Returns 0 or a verdict. */
static __always_inline int parse_first(struct __sk_buff *ctx, struct packet *packet,
				       const struct cursor *cursor, __u32 bytes)
{
	bool is_quoted = packet->is_error;
	int verdict = parse_l4(ctx, packet, cursor, is_quoted);

	packet->fragment = FRAGMENT_FIRST;
	if (is_quoted)
		return verdict;
	if (packet->is_error)
		return -DROP_FRAGMENT;
	if (verdict == -DROP_INVALID_PACKET || l4_header_bytes(ctx, packet) > bytes)
		return -DROP_INVALID_FRAGMENT;
	return verdict;
}

/* Read a fragment, whose payload is what is between `offset` and `end` of the frame. `fragment`
 * says where that is in the whole one's, as IPv6 does: FRAGMENT_START, and HAS_MORE_FRAGMENTS. One
 * that isn't the last is a multiple of 8 bytes long, and none is empty or reaches across the
 * longest packet. Returns 0 or a verdict. */
static __noinline int parse_fragment(struct __sk_buff *ctx, struct packet *packet, __u32 offset,
				     __u32 end, __u32 fragment)
{
	__u32 bytes = end - offset, start = fragment & FRAGMENT_START;
	struct cursor cursor = {.offset = offset, .end = end};

	if (!tracks_fragments)
		return -DROP_FRAGMENT;
	if (offset > end)
		return -DROP_INVALID_PACKET;
	if (!packet->is_error && (!bytes || (fragment & HAS_MORE_FRAGMENTS && bytes % 8) ||
				  start + bytes > LONGEST_PACKET))
		return -DROP_INVALID_FRAGMENT;
	if (!start)
		return parse_first(ctx, packet, &cursor, bytes);
	packet->fragment = FRAGMENT_LATER;
	packet->offset = offset;
	if (packet->is_error) /* parse_quoted() finds its sender first */
		return 0;
	return lookup_fragment(packet, ctx->ifindex, start);
}
