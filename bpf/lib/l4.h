/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Headers behind IP: TCP and UDP here, both ICMPs in lib/icmp.h. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/packet.h"
#include "maps/conntrack.h"

#define TCP_SEQUENCE_OFFSET     4
#define TCP_ACKNOWLEDGED_OFFSET 8
#define TCP_LENGTH_OFFSET       12
#define TCP_FLAGS_OFFSET        13
#define TCP_HEADER_BYTES        20

/* Tell whether this data plane knows the protocol, in a packet of this family. */
static __always_inline bool is_known_protocol(const struct packet *packet)
{
	__u8 icmp = packet->family == 6 ? IPPROTO_ICMP6 : IPPROTO_ICMP;

	return packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP ||
	       packet->protocol == icmp;
}

/* Read the header of packet->protocol at the cursor. Of what an ICMP error quotes (`is_quoted`) 8
 * bytes of it are enough. Returns 0 or a verdict. */
static __always_inline int parse_l4(struct __sk_buff *ctx, struct packet *packet,
				    const struct cursor *cursor, bool is_quoted)
{
	const __be16 *port;
	const __u8 *tcp;

	packet->offset = cursor->offset;
	if (packet->protocol == IPPROTO_TCP && !is_quoted) {
		tcp = header_at(ctx, cursor, TCP_HEADER_BYTES);
		if (!tcp)
			return -DROP_INVALID_PACKET;
		packet->tcp_flags = tcp[TCP_FLAGS_OFFSET];
		packet->acknowledged = *(const __be32 *)(tcp + TCP_ACKNOWLEDGED_OFFSET);
		port = (const void *)tcp;
	} else {
		port = header_at(ctx, cursor, L4_PORTS_BYTES);
		if (!port)
			return -DROP_INVALID_PACKET;
		if (is_icmp(packet))
			return parse_icmp(packet, (const void *)port, is_quoted);
	}
	packet->source_port = port[0];
	packet->destination_port = port[1];
	return 0;
}
