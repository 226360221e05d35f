/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* TCP, UDP, echoes of both ICMPs, and ICMP errors about any of them. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/drop.h"
#include "lib/packet.h"

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

#define TCP_FLAGS_OFFSET 13
#define TCP_HEADER_BYTES 20
#define PORTS_BYTES      8 /* what UDP and an echo have before their payload */
#define MAX_L4_OFFSET    512

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
	ICMP6_PARAMETERPROB = 4,
	ICMP6_ECHO = 128,
	ICMP6_ECHOREPLY = 129,
};

static __always_inline __u8 echo_type(const struct packet *packet)
{
	return packet->family == 6 ? ICMP6_ECHO : ICMP_ECHO;
}

static __always_inline bool is_echo_reply(const struct packet *packet)
{
	return is_icmp(packet) && packet->icmp_type == (packet->family == 6 ? ICMP6_ECHOREPLY : ICMP_ECHOREPLY);
}

static __always_inline bool is_icmp_error(const struct packet *packet, __u8 type)
{
	if (packet->family == 6)
		return type >= ICMP6_DEST_UNREACH && type <= ICMP6_PARAMETERPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* Have the first bytes of a packet where they can be read; a few senders (AF_PACKET with pages) keep them elsewhere. */
static __always_inline void pull(struct __sk_buff *ctx, __u32 bytes)
{
	if ((void *)(long)ctx->data + bytes > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, ctx->len < bytes ? ctx->len : bytes);
}

/* Read the header of the packet that an error quotes, at `offset`. It must be from whom the error goes to, and a pod
 * says such a thing only of what was sent to itself. Returns the offset of the next header, or the negative of a drop
 * reason. */
static __always_inline int parse_quoted_ip(struct __sk_buff *ctx, struct packet *packet, __u32 offset)
{
	const struct iphdr *ip = (void *)(long)ctx->data + offset;
	const struct ipv6hdr *ip6 = (void *)ip;
	struct address asker, asked;
	__u32 bytes;

	if (packet->family == 6) {
		if ((void *)(ip6 + 1) > (void *)(long)ctx->data_end)
			return -DROP_INVALID_PACKET;
		__builtin_memcpy(&asker, &ip6->saddr, sizeof(asker));
		__builtin_memcpy(&asked, &ip6->daddr, sizeof(asked));
		packet->protocol = ip6->nexthdr;
		bytes = sizeof(*ip6);
	} else {
		if ((void *)(ip + 1) > (void *)(long)ctx->data_end || ip->ihl * 4 < sizeof(*ip))
			return -DROP_INVALID_PACKET;
		map_ipv4(&asker, ip->saddr);
		map_ipv4(&asked, ip->daddr);
		packet->protocol = ip->protocol;
		bytes = ip->ihl * 4;
	}
	if (!is_same_address(&asker, &packet->destination))
		return -DROP_CT_INVALID;
	if (packet->hook == HOOK_FROM_POD && !is_same_address(&asked, &packet->source))
		return -DROP_CT_INVALID;
	packet->source = asked;
	return offset + bytes;
}

/* Take an error for an answer of the flow that it is about. `quoted` is the offset of the quoted packet, of which a
 * sender may have cut everything behind 8 bytes of its second header. */
static __noinline int parse_icmp_error(struct __sk_buff *ctx, struct packet *packet, __u32 quoted)
{
	const struct icmp_echo *icmp;
	const __be16 *port;
	int offset;

	pull(ctx, quoted + sizeof(struct ipv6hdr) + PORTS_BYTES);
	offset = parse_quoted_ip(ctx, packet, quoted);
	if (offset < 0)
		return -offset;
	if (offset > MAX_L4_OFFSET)
		return DROP_INVALID_PACKET;
	port = (void *)(long)ctx->data + offset;
	if ((void *)port + PORTS_BYTES > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	packet->is_error = true;
	if (is_icmp(packet)) {
		icmp = (void *)port;
		packet->destination_port = icmp->id;
		return icmp->type == echo_type(packet) ? 0 : DROP_UNKNOWN_ICMP_TYPE;
	}
	packet->source_port = port[1];
	packet->destination_port = port[0];
	return 0;
}

static __always_inline int parse_icmp(struct __sk_buff *ctx, struct packet *packet, const struct icmp_echo *icmp)
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
		return parse_icmp_error(ctx, packet, packet->offset + sizeof(*icmp));
	return DROP_UNKNOWN_ICMP_TYPE;
}

/* Tell whether this data plane knows the protocol, in a packet of this family. */
static __always_inline bool is_known_protocol(const struct packet *packet)
{
	__u8 icmp = packet->family == 6 ? IPPROTO_ICMP6 : IPPROTO_ICMP;

	return packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP || packet->protocol == icmp;
}

/* Read what lies at packet->offset; returns 0 or a drop reason. */
static __always_inline int parse_l4(struct __sk_buff *ctx, struct packet *packet, __u32 offset)
{
	const void *start = (void *)(long)ctx->data + offset;
	const void *end = (void *)(long)ctx->data_end;
	const __be16 *port = start;

	packet->offset = offset;
	if (start + PORTS_BYTES > end)
		return DROP_INVALID_PACKET;
	if (is_icmp(packet))
		return parse_icmp(ctx, packet, start);
	packet->source_port = port[0];
	packet->destination_port = port[1];
	if (packet->protocol != IPPROTO_TCP)
		return 0;
	if (start + TCP_HEADER_BYTES > end)
		return DROP_INVALID_PACKET;
	packet->tcp_flags = *((const __u8 *)start + TCP_FLAGS_OFFSET);
	return 0;
}
