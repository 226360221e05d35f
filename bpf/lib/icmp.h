/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP and ICMPv6: echoes, and errors about packets of TCP, UDP or echoes. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/packet.h"

#define L4_PORTS_BYTES                                                                             \
	8 /* UDP's and an echo's before their payload; errors quote as many at least */
#define MAX_L4_OFFSET 512

/* RFC 792 and RFC 4443, echo or its reply; linux/icmp.h needs a C library. */
struct icmp_echo {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

enum {
	ICMP_ECHOREPLY = 0,
	ICMP_DEST_UNREACH = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETERPROB = 12,
};

enum {
	ICMP6_DEST_UNREACH = 1,
	ICMP6_PACKET_TOO_BIG = 2,
	ICMP6_PARAMETERPROB = 4,
	ICMP6_ECHO = 128,
	ICMP6_ECHOREPLY = 129,
	MLD_QUERY = 130,
	MLD_DONE = 132,
	ND_ROUTER_SOLICIT = 133,
	ND_NEIGHBOUR_SOLICIT = 135,
	ND_NEIGHBOUR_ADVERT = 136,
	ND_REDIRECT = 137,
	MLD2_REPORT = 143,
};

static __always_inline __u8 echo_type(const struct packet *packet)
{
	return packet->family == 6 ? ICMP6_ECHO : ICMP_ECHO;
}

static __always_inline __u8 echo_reply_type(const struct packet *packet)
{
	return packet->family == 6 ? ICMP6_ECHOREPLY : ICMP_ECHOREPLY;
}

static __always_inline bool is_echo_reply(const struct packet *packet)
{
	return is_icmp(packet) && packet->icmp_type == echo_reply_type(packet);
}

static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMP6 && packet->icmp_type >= ND_ROUTER_SOLICIT &&
	       packet->icmp_type <= ND_REDIRECT;
}

/* Tell whether a packet belongs to what every host sends when a link comes up (RFC 4862): duplicate
 * address detection, router solicitations, and memberships of multicast groups. Nobody listens. */
static __always_inline bool is_autoconfiguration(const struct packet *packet)
{
	if (packet->protocol != IPPROTO_ICMP6)
		return false;
	if (packet->icmp_type == ND_NEIGHBOUR_SOLICIT) /* for the address that it wants itself */
		return is_no_address(&packet->source);
	return packet->icmp_type == ND_ROUTER_SOLICIT || packet->icmp_type == MLD2_REPORT ||
	       (packet->icmp_type >= MLD_QUERY && packet->icmp_type <= MLD_DONE);
}

static __always_inline bool is_icmp_error(const struct packet *packet, __u8 type)
{
	if (packet->family == 6)
		return type >= ICMP6_DEST_UNREACH && type <= ICMP6_PARAMETERPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* Read an ICMP header. Of an error nothing is known yet; what is about an error is none (RFC 1122,
 * 3.2.2). Returns 0 or a verdict. */
static __always_inline int parse_icmp(struct packet *packet, const struct icmp_echo *icmp,
				      bool is_quoted)
{
	packet->icmp_type = icmp->type;
	if (icmp->type == echo_type(packet)) {
		packet->source_port = icmp->id;
		return 0;
	}
	if (is_echo_reply(packet)) {
		packet->destination_port = icmp->id;
		return 0;
	}
	if (is_quoted || !is_icmp_error(packet, icmp->type))
		return -DROP_UNKNOWN_ICMP_TYPE;
	packet->is_error = true;
	return 0;
}
