/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ARP (RFC 826), answered in place: the gateway is every pod's only neighbour. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/cursor.h"
#include "lib/drop_reasons.h"
#include "lib/locate.h"

#define ARP_ETHERNET 1
#define ARP_REQUEST  1
#define ARP_REPLY    2

/* RFC 826, for Ethernet and IPv4; linux/if_arp.h needs a C library. */
struct arp_ipv4 {
	struct ethhdr ethernet;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_bytes;
	__u8 protocol_bytes;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

_Static_assert(sizeof(struct arp_ipv4) == 42, "arp_ipv4");

static __always_inline bool is_ipv4_over_ethernet(const struct arp_ipv4 *arp)
{
	return arp->hardware == bpf_htons(ARP_ETHERNET) && arp->protocol == bpf_htons(ETH_P_IP);
}

static __always_inline void turn_into_reply(struct arp_ipv4 *arp)
{
	__be32 target = arp->target;

	__builtin_memcpy(arp->ethernet.h_dest, arp->sender_mac, ETH_ALEN);
	write_gateway_mac(arp->ethernet.h_source);
	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	arp->target = arp->sender;
	write_gateway_mac(arp->sender_mac);
	arp->sender = target;
}

/* Let a pod tell this host at which MAC address it has its own address. Returns a verdict. */
static __noinline int handle_arp_reply(struct __sk_buff *ctx)
{
	struct arp_ipv4 *arp = frame_bytes(ctx, sizeof(*arp));
	struct location pod = {};
	struct address sender;

	if (!arp)
		return -DROP_INVALID_PACKET;
	map_ipv4(&sender, arp->sender);
	if (!locate_local(&sender, &pod) || pod.ifindex != ctx->ifindex)
		return -DROP_INVALID_SOURCE;
	for (int i = 0; i < ETH_ALEN; i++)
		if (arp->sender_mac[i] != pod.mac[i])
			return -DROP_INVALID_MAC;
	return TC_ACT_OK;
}

/* Answer a pod's request for the gateway; let its own replies to this host through. Returns a
 * verdict. */
static __always_inline int handle_arp(struct __sk_buff *ctx)
{
	struct arp_ipv4 *arp = frame_bytes(ctx, sizeof(*arp));
	struct address target;

	if (!arp || !is_ipv4_over_ethernet(arp))
		return -DROP_INVALID_PACKET;
	if (arp->operation == bpf_htons(ARP_REPLY))
		return handle_arp_reply(ctx);
	if (arp->operation != bpf_htons(ARP_REQUEST))
		return -DROP_INVALID_PACKET;
	map_ipv4(&target, arp->target);
	if (!is_gateway(&target))
		return -DROP_UNKNOWN_TARGET;
	turn_into_reply(arp);
	return bpf_redirect(ctx->ifindex, 0);
}
