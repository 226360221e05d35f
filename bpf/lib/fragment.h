/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fragments: the first one of a packet tells the ports of the others, which must come after it. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/drop.h"
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

/* Note the ports of a first fragment; without room for them the others are dropped as unknown. */
static __noinline __attribute__((unused)) void remember_fragment(struct __sk_buff *ctx, const struct packet *packet)
{
	struct fragment_ports ports = {.source = packet->source_port, .destination = packet->destination_port};
	struct fragment_key key;

	fragment_key_of(ctx, packet, &key);
	bpf_map_update_elem(&cilia_fragments, &key, &ports, BPF_ANY);
}

static __always_inline void note_fragment(struct __sk_buff *ctx, const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_FIRST)
		remember_fragment(ctx, packet);
}

/* Fill in the ports of a later fragment; returns 0 or a drop reason. */
static __noinline int recall_fragment(struct __sk_buff *ctx, struct packet *packet)
{
	const struct fragment_ports *ports;
	struct fragment_key key;

	fragment_key_of(ctx, packet, &key);
	ports = bpf_map_lookup_elem(&cilia_fragments, &key);
	if (!ports)
		return DROP_FRAGMENT_UNKNOWN;
	packet->source_port = ports->source;
	packet->destination_port = ports->destination;
	if (packet->protocol == IPPROTO_ICMP)
		packet->icmp_type = ports->source ? ICMP_ECHO : ICMP_ECHOREPLY;
	else if (packet->protocol == IPPROTO_ICMP6)
		packet->icmp_type = ports->source ? ICMP6_ECHO : ICMP6_ECHOREPLY;
	return 0;
}

/* Read a fragment whose payload begins `start` bytes into the whole one's, and in the frame at `offset`. One that would
 * overwrite a TCP header (RFC 1858) is refused, and an error that doesn't fit into one packet is none. Returns 0 or a
 * drop reason. */
static __always_inline int parse_fragment(struct __sk_buff *ctx, struct packet *packet, __u32 start, __u32 offset)
{
	int reason;

	if (!tracks_fragments)
		return DROP_FRAGMENT;
	if (start) {
		packet->fragment = FRAGMENT_LATER;
		packet->offset = offset;
		if (packet->protocol == IPPROTO_TCP && start < TCP_HEADER_BYTES)
			return DROP_INVALID_PACKET;
		return recall_fragment(ctx, packet);
	}
	packet->fragment = FRAGMENT_FIRST;
	reason = parse_l4(ctx, packet, offset);
	return !reason && packet->is_error ? DROP_FRAGMENT : reason;
}
