/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Neighbour discovery (RFC 4861), answered in place: the gateway is every pod's only neighbour. */
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
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/locate.h"
#include "lib/packet.h"

#define ND_TARGET_MAC                     2
#define ND_FROM_ROUTER_SOLICITED_OVERRIDE 0xe0000000
#define ND_HOP_LIMIT                      255

/* Solicitation, or its advertisement, with the one option that matters. */
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
#define ADDRESSES_OFFSET   (sizeof(struct ethhdr) + offsetof(struct ipv6hdr, saddr))
#define ND_OPTION_BYTES    8
#define ND_BYTES_NO_OPTION (sizeof(struct neighbour_message) - ND_OPTION_BYTES)

_Static_assert(sizeof(struct neighbour_message) == 86, "neighbour_message");

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
	message->checksum =
	    icmp6_checksum((void *)message + ADDRESSES_OFFSET, &message->type, ND_BYTES);
}

/* Message of neighbour discovery in a frame, if it is as RFC 4861 (7.1) wants it; or NULL. */
static __always_inline struct neighbour_message *message_of(struct __sk_buff *ctx,
							    const struct packet *packet)
{
	struct neighbour_message *message = frame_bytes(ctx, ND_BYTES_NO_OPTION);

	if (!message || packet->offset != ETH_HLEN + sizeof(struct ipv6hdr))
		return NULL;
	if (message->ip.hop_limit != ND_HOP_LIMIT || message->code ||
	    bpf_ntohs(message->ip.payload_len) < ND_BYTES - ND_OPTION_BYTES)
		return NULL;
	return message;
}

/* Tell whether an address is this host's on a pod's link: what is sent there goes no further. */
static __always_inline bool is_host_at_link(const struct address *address)
{
	bool is_link_local = (word_of(address, 0) & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
	bool is_all_nodes = word_of(address, 0) == bpf_htonl(0xff020000) && !word_of(address, 1) &&
			    !word_of(address, 2) && word_of(address, 3) == bpf_htonl(1);

	return is_link_local || is_all_nodes || is_own_address(address);
}

/* Tell whether the one option of a message, if it has one, is the pod's MAC address. */
static __always_inline bool has_own_mac(struct __sk_buff *ctx, const __u8 *mac)
{
	struct neighbour_message *message = frame_bytes(ctx, sizeof(*message));

	if (!message)
		return ctx->len == ND_BYTES_NO_OPTION;
	if (bpf_ntohs(message->ip.payload_len) == ND_BYTES - ND_OPTION_BYTES)
		return true;
	if (bpf_ntohs(message->ip.payload_len) != ND_BYTES || message->option != ND_TARGET_MAC ||
	    message->option_length != 1)
		return false;
	for (int i = 0; i < ETH_ALEN; i++)
		if (message->mac[i] != mac[i])
			return false;
	return true;
}

/* Let a pod tell this host, and nobody else, at which MAC address it has its own address. Returns a
 * verdict. */
static __noinline int handle_advertisement(struct __sk_buff *ctx, const struct packet *packet)
{
	struct neighbour_message *message = message_of(ctx, packet);
	struct location sender = {};
	struct address target;

	if (!message)
		return -DROP_INVALID_PACKET;
	__builtin_memcpy(&target, &message->target, sizeof(target));
	if (!locate_local(&packet->source, &sender) || sender.ifindex != ctx->ifindex ||
	    !is_same_address(&target, &packet->source))
		return -DROP_INVALID_SOURCE;
	if (!is_host_at_link(&packet->destination))
		return -DROP_UNKNOWN_TARGET;
	return has_own_mac(ctx, sender.mac) ? TC_ACT_OK : -DROP_INVALID_MAC;
}

/* Tell whether this host asks for the address of the pod behind a link. */
static __noinline bool asks_for_pod(struct __sk_buff *ctx, const struct packet *packet)
{
	struct neighbour_message *message = message_of(ctx, packet);
	struct address target;

	if (!message || packet->icmp_type != ND_NEIGHBOUR_SOLICIT ||
	    packet->protocol != IPPROTO_ICMP6)
		return false;
	__builtin_memcpy(&target, &message->target, sizeof(target));
	return is_own_address(&packet->source) && is_local_at(&target, ctx->ifindex);
}

/* Answer a pod's solicitation of the gateway; let its own advertisements to this host through.
 * Returns a verdict. */
static __always_inline int handle_ndp(struct __sk_buff *ctx, const struct packet *packet)
{
	struct neighbour_message *message;
	struct address target;

	if (packet->icmp_type == ND_NEIGHBOUR_ADVERT)
		return handle_advertisement(ctx, packet);
	if (packet->icmp_type != ND_NEIGHBOUR_SOLICIT)
		return -DROP_UNKNOWN_ICMP_TYPE;
	message = message_of(ctx, packet);
	if (!message)
		return -DROP_INVALID_PACKET;
	__builtin_memcpy(&target, &message->target, sizeof(target));
	if (is_no_address(&target) || !is_gateway(&target))
		return -DROP_UNKNOWN_TARGET;
	if (bpf_skb_change_tail(ctx, sizeof(*message), 0))
		return -DROP_INVALID_PACKET;
	message = frame_bytes(ctx, sizeof(*message));
	if (!message)
		return -DROP_INVALID_PACKET;
	write_advertisement(message);
	return bpf_redirect(ctx->ifindex, 0);
}
