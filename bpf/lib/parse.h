/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From bytes to the fields that decide. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/drop.h"
#include "lib/ipv4.h"
#include "lib/ipv6.h"
#include "lib/l4.h"
#include "lib/packet.h"

static __always_inline __be16 ethernet_protocol(struct __sk_buff *ctx)
{
	const struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return 0;
	return ethernet->h_proto;
}

/* Longest headers that are read of IPv4: Ethernet, IPv4 with options, TCP. */
#define HEADERS_BYTES (ETH_HLEN + 60 + TCP_HEADER_BYTES)
#define PLAIN_BYTES   (ETH_HLEN + sizeof(struct iphdr) + TCP_HEADER_BYTES)

/* Returns 0 or a drop reason. `packet` is zero on entry, but for its hook. */
static __always_inline int parse(struct __sk_buff *ctx, struct packet *packet)
{
	if ((void *)(long)ctx->data + PLAIN_BYTES > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, ctx->len < HEADERS_BYTES ? ctx->len : HEADERS_BYTES);
	packet->ethernet_protocol = ethernet_protocol(ctx);
	if (packet->ethernet_protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(ctx, packet);
	if (packet->ethernet_protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, packet);
	return DROP_UNKNOWN_L3;
}
