/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From bytes to the fields that decide: IPv4 with TCP, UDP, ICMP echoes, and ICMP errors about any of them. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/drop.h"
#include "maps/metrics.h"

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

#define TCP_FLAGS_OFFSET 13
#define TCP_HEADER_BYTES 20
#define PORTS_BYTES      8 /* what UDP and an ICMP echo have before their payload */
#define MORE_FRAGMENTS   0x2000
#define FRAGMENT_OFFSET  0x1fff

/* RFC 792, echo or its reply; linux/icmp.h needs a C library. */
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

struct packet {
	__be32 source;
	__be32 destination;
	__be16 source_port; /* ICMP echo: the identifier at the end that asked, 0 at the other */
	__be16 destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 is_known; /* its flow was found */
	__u8 is_error; /* ICMP error: the fields above are those of an answer to the packet that it is about */
	__u8 hook;     /* enum hook */
	__u8 pad[3];
	__u32 identity; /* from the overlay: the sender's, by the tunnel's key */
	__be32 tunnel;  /* from the overlay: the node that sent it */
};

static __always_inline void parse_echo(struct packet *packet, const struct icmp_echo *icmp)
{
	packet->icmp_type = icmp->type;
	if (icmp->type == ICMP_ECHO)
		packet->source_port = icmp->id;
	else
		packet->destination_port = icmp->id;
}

/* Take an error for an answer of the flow that it is about. It goes to who sent the packet that it quotes, and a pod
 * says such a thing only of what was sent to itself. `quoted` is the offset of the quoted IPv4 header, of which a
 * sender may have cut everything behind 8 bytes of the next one. */
static __always_inline int parse_icmp_error(struct __sk_buff *ctx, struct packet *packet, __u32 quoted)
{
	const struct iphdr *ip = (void *)(long)ctx->data + quoted;
	const struct icmp_echo *icmp;
	const __be16 *port;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end || ip->ihl * 4 < sizeof(*ip))
		return DROP_INVALID_PACKET;
	if (ip->saddr != packet->destination || (packet->hook == HOOK_FROM_POD && ip->daddr != packet->source))
		return DROP_CT_INVALID;
	port = (void *)(long)ctx->data + quoted + ip->ihl * 4;
	if ((void *)port + PORTS_BYTES > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	packet->is_error = true;
	packet->source = ip->daddr;
	packet->protocol = ip->protocol;
	if (ip->protocol == IPPROTO_ICMP) {
		icmp = (void *)port;
		packet->destination_port = icmp->id;
		return icmp->type == ICMP_ECHO ? 0 : DROP_UNKNOWN_ICMP_TYPE;
	}
	packet->source_port = port[1];
	packet->destination_port = port[0];
	return 0;
}

static __always_inline int parse_icmp(struct __sk_buff *ctx, struct packet *packet, const struct icmp_echo *icmp,
				      __u32 offset)
{
	switch (icmp->type) {
	case ICMP_ECHO:
	case ICMP_ECHOREPLY:
		parse_echo(packet, icmp);
		return 0;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		packet->icmp_type = icmp->type;
		return parse_icmp_error(ctx, packet, offset + sizeof(*icmp));
	}
	packet->icmp_type = icmp->type;
	return DROP_UNKNOWN_ICMP_TYPE;
}

static __always_inline int parse_l4(struct __sk_buff *ctx, struct packet *packet, __u32 offset)
{
	const void *start = (void *)(long)ctx->data + offset;
	const void *end = (void *)(long)ctx->data_end;
	const __be16 *port = start;

	if (start + PORTS_BYTES > end)
		return DROP_INVALID_PACKET;
	if (packet->protocol == IPPROTO_ICMP)
		return parse_icmp(ctx, packet, start, offset);
	packet->source_port = port[0];
	packet->destination_port = port[1];
	if (packet->protocol != IPPROTO_TCP)
		return 0;
	if (start + TCP_HEADER_BYTES > end)
		return DROP_INVALID_PACKET;
	packet->tcp_flags = *((const __u8 *)start + TCP_FLAGS_OFFSET);
	return 0;
}

/* Returns 0 or a drop reason. `packet` is zero on entry; it is filled as far as the headers could be read. */
static __always_inline int parse_ipv4(struct __sk_buff *ctx, struct packet *packet)
{
	const struct iphdr *ip;
	__u32 header;

	ip = (void *)(long)ctx->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	packet->source = ip->saddr;
	packet->destination = ip->daddr;
	packet->protocol = ip->protocol;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return DROP_INVALID_PACKET;
	if (ip->frag_off & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET))
		return DROP_FRAGMENT;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP && packet->protocol != IPPROTO_ICMP)
		return DROP_UNKNOWN_L4;
	return parse_l4(ctx, packet, ETH_HLEN + header);
}

static __always_inline __be16 ethernet_protocol(struct __sk_buff *ctx)
{
	const struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return 0;
	return ethernet->h_proto;
}

/* Longest headers that are read: Ethernet, IPv4 with options, TCP. */
#define HEADERS_BYTES (ETH_HLEN + 60 + TCP_HEADER_BYTES)
#define PLAIN_BYTES   (ETH_HLEN + sizeof(struct iphdr) + TCP_HEADER_BYTES)

/* A packet has its headers in the linear part, but for rare senders (AF_PACKET with pages). */
static __always_inline int parse(struct __sk_buff *ctx, struct packet *packet)
{
	if ((void *)(long)ctx->data + PLAIN_BYTES > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, ctx->len < HEADERS_BYTES ? ctx->len : HEADERS_BYTES);
	if (ethernet_protocol(ctx) != bpf_htons(ETH_P_IP))
		return DROP_UNKNOWN_L3;
	return parse_ipv4(ctx, packet);
}
