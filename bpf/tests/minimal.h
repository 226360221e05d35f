/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The least that forwards a known IPv4 flow: find addresses and ports, look one LRU entry up,
 * redirect. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps/conntrack.h"

struct ends {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
};

/* False if the packet isn't TCP or UDP over IPv4. */
static __always_inline bool read_ends(struct __sk_buff *ctx, struct ends *ends)
{
	const struct ethhdr *ethernet = (void *)(long)ctx->data;
	const struct iphdr *ip = (void *)(ethernet + 1);
	const __be16 *port = (void *)(ip + 1);

	if ((void *)(port + 2) > (void *)(long)ctx->data_end)
		return false;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP) || ip->ihl != 5 ||
	    (ip->protocol != 6 && ip->protocol != 17))
		return false;
	ends->source = ip->saddr;
	ends->destination = ip->daddr;
	ends->source_port = port[0];
	ends->destination_port = port[1];
	ends->protocol = ip->protocol;
	return true;
}

static __always_inline __u64 end_number(__be32 address, __be16 port)
{
	return (__u64)bpf_ntohl(address) << 16 | bpf_ntohs(port);
}

/* Forward a packet of a known flow; others are left to the next program: on live links, to the data
 * plane. */
static __always_inline int forward_between(const struct ends *ends)
{
	struct ct4_key key = {.protocol = ends->protocol};
	const struct ct_entry *entry;
	__u32 from;

	from = end_number(ends->source, ends->source_port) >
	       end_number(ends->destination, ends->destination_port);
	key.address[0] = from ? ends->destination : ends->source;
	key.address[1] = from ? ends->source : ends->destination;
	key.port[0] = from ? ends->destination_port : ends->source_port;
	key.port[1] = from ? ends->source_port : ends->destination_port;
	entry = bpf_map_lookup_elem(&cilia_ct4, &key);
	if (!entry)
		return TC_ACT_UNSPEC;
	return bpf_redirect_peer(from ? entry->side[1].ifindex : entry->side[0].ifindex, 0);
}
