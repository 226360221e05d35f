/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answering ARP, where the packet lies: the gateway is every pod's only neighbour. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/drop.h"

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

static __always_inline void write_gateway_mac(__u8 *mac)
{
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = gateway_mac[i];
}

/* Turn a request into its answer; returns 0 or a drop reason. */
static __always_inline int answer_arp(struct __sk_buff *ctx)
{
	struct arp_ipv4 *arp = (void *)(long)ctx->data;
	__be32 target;

	if ((void *)(arp + 1) > (void *)(long)ctx->data_end)
		return DROP_INVALID_PACKET;
	if (arp->hardware != bpf_htons(ARP_ETHERNET) || arp->protocol != bpf_htons(ETH_P_IP) ||
	    arp->operation != bpf_htons(ARP_REQUEST))
		return DROP_INVALID_PACKET;
	target = arp->target;
	if (target != gateway_ipv4 || !target)
		return DROP_UNKNOWN_TARGET;
	__builtin_memcpy(arp->ethernet.h_dest, arp->sender_mac, ETH_ALEN);
	write_gateway_mac(arp->ethernet.h_source);
	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	arp->target = arp->sender;
	write_gateway_mac(arp->sender_mac);
	arp->sender = target;
	return 0;
}
