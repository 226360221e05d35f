/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fields of a packet that decide about it, and where they were found. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"
#include "maps/metrics.h"

#define IPPROTO_ICMP6 58 /* linux/icmpv6.h needs a C library */

struct packet {
	struct address source __attribute__((aligned(8)));
	struct address destination;
	__be16 source_port; /* echo: the identifier at the end that asked, 0 at the other */
	__be16 destination_port;
	__u16 offset; /* TCP's, UDP's or ICMP's place in the frame */
	__u16 quoted; /* the same in the packet that an ICMP error quotes; 0: it isn't there */
	__u8 family;  /* 4 or 6; 0: not read that far */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 is_known; /* its flow was found */
	__u8 is_error; /* ICMP error: addresses and ports are those of a reply to the packet that
			  it is about */
	__u8 hook;     /* enum hook */
	__u8 fragment; /* enum fragment_kind */
	__be32 fragment_id;
	__u32 identity;      /* from the overlay: the sender's, by the tunnel's key */
	__be32 tunnel;       /* from the overlay: the node that sent it */
	__be32 acknowledged; /* TCP: number that it acknowledges, if it has ACK */
};

enum fragment_kind {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST = 1, /* has the ports */
	FRAGMENT_LATER = 2,
};

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMP6;
}
