/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Parsing of a frame: from its bytes to the fields of struct packet. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/ipv4.h"
#include "lib/ipv6.h"
#include "lib/l4.h"
#include "lib/packet.h"

/* Longest headers that are read of IPv4: Ethernet, IPv4 with options, TCP. */
#define HEADERS_BYTES (ETH_HLEN + 60 + TCP_HEADER_BYTES)
#define PLAIN_BYTES   (ETH_HLEN + sizeof(struct iphdr) + TCP_HEADER_BYTES)

/* Read a frame's headers; returns 0 or a verdict. `packet` is zero on entry, but for its hook. */
static __always_inline int parse(struct __sk_buff *ctx, struct packet *packet)
{
	struct cursor cursor = {.end = FRAME_END};
	const struct ethhdr *ethernet;

	pull(ctx, PLAIN_BYTES, HEADERS_BYTES);
	ethernet = header_at(ctx, &cursor, sizeof(*ethernet));
	if (!ethernet)
		return -DROP_UNKNOWN_L3;
	packet->ethernet_protocol = ethernet->h_proto;
	cursor.offset += sizeof(*ethernet);
	if (packet->ethernet_protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(ctx, packet, &cursor);
	if (packet->ethernet_protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, packet, &cursor);
	return -DROP_UNKNOWN_L3;
}
