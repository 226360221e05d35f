/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fragments: the first one of a packet tells the ports of the others, which must come after it. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/l4.h"
#include "lib/packet.h"
#include "maps/fragment.h"

static __always_inline void fragment_key_of(struct __sk_buff *ctx, const struct packet *packet,
					    struct fragment_key *key)
{
	key->source = packet->source;
	key->destination = packet->destination;
	key->id = packet->fragment_id;
	key->ifindex = ctx->ifindex;
	key->protocol = packet->protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
}

/* Record the ports of a first fragment; without room for them the others are dropped as unknown. */
static __noinline __attribute__((unused)) void record_fragment(struct __sk_buff *ctx,
							       const struct packet *packet)
{
	struct fragment_ports ports = {
	    .source = packet->source_port,
	    .destination = packet->destination_port,
	};
	struct fragment_key key;

	fragment_key_of(ctx, packet, &key);
	bpf_map_update_elem(&cilia_fragments, &key, &ports, BPF_ANY);
}

static __always_inline void track_fragment(struct __sk_buff *ctx, const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_FIRST)
		record_fragment(ctx, packet);
}

/* Fill in the ports of a later fragment; returns 0 or a verdict. */
static __noinline int lookup_fragment(struct __sk_buff *ctx, struct packet *packet)
{
	const struct fragment_ports *ports;
	struct fragment_key key;

	fragment_key_of(ctx, packet, &key);
	ports = bpf_map_lookup_elem(&cilia_fragments, &key);
	if (!ports)
		return -DROP_FRAGMENT_UNKNOWN;
	packet->source_port = ports->source;
	packet->destination_port = ports->destination;
	if (is_icmp(packet))
		packet->icmp_type = ports->source ? echo_type(packet) : echo_reply_type(packet);
	return 0;
}

/* Read a fragment whose payload begins `start` bytes into the whole one's, and in the frame at the
 * cursor. One that would overwrite a TCP header (RFC 1858) is refused, and an error that doesn't
 * fit into one packet is none. Returns 0 or a verdict. */
static __always_inline int parse_fragment(struct __sk_buff *ctx, struct packet *packet,
					  const struct cursor *cursor, __u32 start)
{
	int verdict;

	if (!tracks_fragments)
		return -DROP_FRAGMENT;
	if (start) {
		packet->fragment = FRAGMENT_LATER;
		packet->offset = cursor->offset;
		if (packet->protocol == IPPROTO_TCP && start < TCP_HEADER_BYTES)
			return -DROP_INVALID_PACKET;
		return lookup_fragment(ctx, packet);
	}
	packet->fragment = FRAGMENT_FIRST;
	verdict = parse_l4(ctx, packet, cursor);
	return !verdict && packet->is_error ? -DROP_FRAGMENT : verdict;
}
