/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Neighbour discovery (RFC 4861), answered where the packet lies: the gateway is every pod's only neighbour. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/checksum.h"
#include "lib/config.h"
#include "lib/drop.h"
#include "lib/end.h"
#include "lib/packet.h"

enum {
	MLD_QUERY = 130,
	MLD_DONE = 132,
	ND_ROUTER_SOLICIT = 133,
	ND_NEIGHBOUR_SOLICIT = 135,
	ND_NEIGHBOUR_ADVERT = 136,
	ND_REDIRECT = 137,
	MLD2_REPORT = 143,
};

#define ND_TARGET_MAC                     2
#define ND_FROM_ROUTER_SOLICITED_OVERRIDE 0xe0000000
#define ND_HOP_LIMIT                      255

/* A solicitation, or its answer, with the one option that matters. */
struct neighbour_message {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	struct address target;
	__u8 option;
	__u8 option_length; /* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
} __attribute__((packed));

#define ND_BYTES           (sizeof(struct neighbour_message) - sizeof(struct ethhdr) - sizeof(struct ipv6hdr))
#define ENDS_OFFSET        (sizeof(struct ethhdr) + offsetof(struct ipv6hdr, saddr))
#define ND_BYTES_NO_OPTION (sizeof(struct neighbour_message) - 8)

_Static_assert(sizeof(struct neighbour_message) == 86, "neighbour_message");

static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMP6 && packet->icmp_type >= ND_ROUTER_SOLICIT &&
	       packet->icmp_type <= ND_REDIRECT;
}

/* What every host says when a link comes up, and nobody here listens to. */
static __always_inline bool is_chatter(const struct packet *packet)
{
	if (packet->protocol != IPPROTO_ICMP6)
		return false;
	if (packet->icmp_type == ND_NEIGHBOUR_SOLICIT) /* who looks for its own address has none */
		return is_no_address(&packet->source);
	return packet->icmp_type == ND_ROUTER_SOLICIT || packet->icmp_type == MLD2_REPORT ||
	       (packet->icmp_type >= MLD_QUERY && packet->icmp_type <= MLD_DONE);
}

static __always_inline void write_advertisement(struct neighbour_message *message)
{
	__builtin_memcpy(message->ethernet.h_dest, message->ethernet.h_source, ETH_ALEN);
	write_gateway_mac(message->ethernet.h_source);
	message->ip.payload_len = bpf_htons(ND_BYTES);
	message->ip.hop_limit = ND_HOP_LIMIT;
	message->ip.daddr = message->ip.saddr;
	__builtin_memcpy(&message->ip.saddr, &message->target, sizeof(message->target));
	message->type = ND_NEIGHBOUR_ADVERT;
	message->flags = bpf_htonl(ND_FROM_ROUTER_SOLICITED_OVERRIDE);
	message->option = ND_TARGET_MAC;
	message->option_length = 1;
	write_gateway_mac(message->mac);
	message->checksum = 0;
	message->checksum = icmp6_checksum((void *)message + ENDS_OFFSET, &message->type, ND_BYTES);
}

/* Answer what a pod asks; let its own answers to this host through. Returns 0, with `action` set, or a drop reason. */
static __always_inline int handle_ndp(struct __sk_buff *ctx, const struct packet *packet, int *action)
{
	struct neighbour_message *message;
	struct address target;

	if (packet->icmp_type == ND_NEIGHBOUR_ADVERT) {
		*action = TC_ACT_OK;
		return is_pod_at(&packet->source, ctx->ifindex) ? 0 : DROP_INVALID_SOURCE;
	}
	if (packet->icmp_type != ND_NEIGHBOUR_SOLICIT)
		return DROP_UNKNOWN_ICMP_TYPE;
	message = (void *)(long)ctx->data;
	if ((void *)message + ND_BYTES_NO_OPTION > (void *)(long)ctx->data_end || packet->offset != ETH_HLEN + 40)
		return DROP_INVALID_PACKET;
	__builtin_memcpy(&target, &message->target, sizeof(target));
	if (is_no_address(&target) || !is_gateway(&target))
		return DROP_UNKNOWN_TARGET;
	if (bpf_skb_change_tail(ctx, sizeof(*message), 0))
		return DROP_INVALID_PACKET;
	message = (void *)(long)ctx->data;
	if ((void *)(message + 1) > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	write_advertisement(message);
	*action = bpf_redirect(ctx->ifindex, 0);
	return 0;
}
