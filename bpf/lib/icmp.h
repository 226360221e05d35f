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
	8 /* of UDP and of an echo before their payload; what errors quote at least */
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
	if (packet->icmp_type == ND_NEIGHBOUR_SOLICIT) /* of the address that it wants for itself */
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

/* Read the IP header that an error quotes, and go past it. Its source must be whom the error goes
 * to, and a pod says such a thing only of what was sent to itself. Returns 0 or a verdict. */
static __always_inline int parse_quoted_ip(struct __sk_buff *ctx, struct packet *packet,
					   struct cursor *cursor)
{
	struct address source, destination;
	const struct ipv6hdr *ip6;
	const struct iphdr *ip;

	if (packet->family == 6) {
		ip6 = header_at(ctx, cursor, sizeof(*ip6));
		if (!ip6)
			return -DROP_INVALID_PACKET;
		__builtin_memcpy(&source, &ip6->saddr, sizeof(source));
		__builtin_memcpy(&destination, &ip6->daddr, sizeof(destination));
		packet->protocol = ip6->nexthdr;
		cursor->offset += sizeof(*ip6);
	} else {
		ip = header_at(ctx, cursor, sizeof(*ip));
		if (!ip || ip->ihl * 4 < sizeof(*ip))
			return -DROP_INVALID_PACKET;
		map_ipv4(&source, ip->saddr);
		map_ipv4(&destination, ip->daddr);
		packet->protocol = ip->protocol;
		cursor->offset += ip->ihl * 4;
	}
	if (!is_same_address(&source, &packet->destination))
		return -DROP_CT_INVALID;
	if (packet->hook == HOOK_FROM_POD && !is_same_address(&destination, &packet->source))
		return -DROP_CT_INVALID;
	packet->source = destination;
	return 0;
}

/* Take an error for a reply of the flow that it is about. The cursor is at the quoted packet, of
 * which a sender may have cut everything behind 8 bytes of its second header. Returns 0 or a
 * verdict. */
static __noinline int parse_icmp_error(struct __sk_buff *ctx, struct packet *packet, __u32 offset,
				       __u32 end)
{
	struct cursor cursor = {.offset = offset, .end = end};
	__u32 headers = offset + sizeof(struct ipv6hdr) + L4_PORTS_BYTES;
	const struct icmp_echo *icmp;
	const __be16 *port;
	int verdict;

	pull(ctx, headers, headers);
	verdict = parse_quoted_ip(ctx, packet, &cursor);
	if (verdict)
		return verdict;
	if (cursor.offset > MAX_L4_OFFSET)
		return -DROP_INVALID_PACKET;
	port = header_at(ctx, &cursor, L4_PORTS_BYTES);
	if (!port)
		return -DROP_INVALID_PACKET;
	packet->is_error = true;
	if (is_icmp(packet)) {
		icmp = (void *)port;
		packet->destination_port = icmp->id;
		return icmp->type == echo_type(packet) ? 0 : -DROP_UNKNOWN_ICMP_TYPE;
	}
	packet->source_port = port[1];
	packet->destination_port = port[0];
	return 0;
}

/* Read an ICMP header, at which the cursor is. Returns 0 or a verdict. */
static __always_inline int parse_icmp(struct __sk_buff *ctx, struct packet *packet,
				      const struct cursor *cursor, const struct icmp_echo *icmp)
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
	if (is_icmp_error(packet, icmp->type))
		return parse_icmp_error(ctx, packet, cursor->offset + sizeof(*icmp), cursor->end);
	return -DROP_UNKNOWN_ICMP_TYPE;
}
