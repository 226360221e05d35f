/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Front path: plain TCP and UDP of an established flow, from a pod of this node to another pod.
 *
 * Such a packet fares as in pass(), but no more of it is read than that needs. Whatever else it is,
 * or if there is anything to decide, to follow or to report, it is left to pass() untouched: IP
 * options, extension headers, fragments, other protocols; SYN, FIN and RST; flows that aren't
 * known, are denied, reset or ending, lead elsewhere, are due to be traced, or weren't looked at
 * since something changed; checksums that aren't to be made in their header.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/conntrack.h"
#include "lib/count.h"
#include "lib/cursor.h"
#include "lib/encap.h"
#include "lib/ending.h"
#include "lib/forward.h"
#include "lib/ipv4.h"
#include "lib/l4.h"
#include "lib/offload.h"

/* Verdict on a packet that is left to pass(). */
#define NOT_PLAIN -1

#define IPV4_PLAIN   0x45 /* version, and the length of a header without options */
#define IPV6_PLAIN   0x60
#define IPV6_VERSION 0xf0 /* the other bits of the first byte are of the traffic class */

/* TCP header as far as it is looked at; UDP has the ports. */
struct plain_l4 {
	__be16 source_port;
	__be16 destination_port;
	__be32 sequence; /* UDP: length and checksum */
	__be32 acknowledged;
	__u8 length;
	__u8 tcp_flags;
	__u8 rest[6];
};

struct plain {
	union ct_key key;
	__be32 acknowledged;
	__u32 from; /* side that sent it */
	__u8 tcp_flags;
};

static __always_inline bool is_in_frame(struct __sk_buff *ctx, const void *end)
{
	return end <= (void *)(long)ctx->data_end;
}

/* Read the header behind IP, of which the packet has `bytes`; false if it isn't plain. */
static __always_inline bool read_plain_l4(struct __sk_buff *ctx, const struct plain_l4 *l4,
					  __u32 bytes, __u8 protocol, struct plain *plain)
{
	plain->acknowledged = 0;
	plain->tcp_flags = 0;
	if (protocol == IPPROTO_UDP)
		return bytes >= L4_PORTS_BYTES && l4->destination_port != bpf_htons(tunnel_port);
	if (protocol != IPPROTO_TCP || bytes < TCP_HEADER_BYTES || !is_in_frame(ctx, l4 + 1))
		return false;
	plain->acknowledged = l4->acknowledged;
	plain->tcp_flags = l4->tcp_flags;
	return !(l4->tcp_flags & RARE_TCP_FLAGS);
}

static __always_inline bool read_plain_ipv4(struct __sk_buff *ctx, const struct iphdr *ip,
					    struct plain *plain)
{
	const struct plain_l4 *l4 = (const void *)(ip + 1);
	__u32 bytes;

	if (!is_in_frame(ctx, &l4->acknowledged))
		return false;
	bytes = bpf_ntohs(ip->tot_len);
	if (*(const __u8 *)ip != IPV4_PLAIN || bytes < sizeof(*ip) || ETH_HLEN + bytes > ctx->len ||
	    ip->frag_off & bpf_htons(MORE_FRAGMENTS | FRAGMENT_OFFSET))
		return false;
	plain->from = ct4_key_between(&plain->key.ipv4, ip->saddr, ip->daddr, l4->source_port,
				      l4->destination_port, ip->protocol);
	if (!has_plain_checksum(ctx, ip->protocol, ETH_HLEN + sizeof(*ip)))
		return false;
	return read_plain_l4(ctx, l4, bytes - sizeof(*ip), ip->protocol, plain);
}

static __always_inline bool read_plain_ipv6(struct __sk_buff *ctx, const struct ipv6hdr *ip,
					    struct plain *plain)
{
	const struct plain_l4 *l4 = (const void *)(ip + 1);
	__u32 bytes;

	if (!is_in_frame(ctx, &l4->acknowledged))
		return false;
	bytes = bpf_ntohs(ip->payload_len);
	if ((*(const __u8 *)ip & IPV6_VERSION) != IPV6_PLAIN ||
	    ETH_HLEN + sizeof(*ip) + bytes > ctx->len)
		return false;
	plain->from =
	    ct6_key_between(&plain->key.ipv6, (const void *)&ip->saddr, (const void *)&ip->daddr,
			    l4->source_port, l4->destination_port, ip->nexthdr);
	if (!has_plain_checksum(ctx, ip->nexthdr, ETH_HLEN + sizeof(*ip)))
		return false;
	return read_plain_l4(ctx, l4, bytes, ip->nexthdr, plain);
}

/* Send a plain packet to a pod, here or by the tunnel; returns a TC action, or a negative number if
 * it leads elsewhere, or may be too long for the tunnel. */
static __always_inline int send_plain(struct __sk_buff *ctx, const struct ct_side *side,
				      __u32 identity)
{
	if (side->tunnel)
		return overlay_mtu && ctx->len > overlay_mtu + ETH_HLEN
			   ? NOT_PLAIN
			   : send_by_tunnel(ctx, identity, side->tunnel);
	return side->ifindex ? deliver_to_pod(ctx, side) : NOT_PLAIN;
}

/* Pass a plain packet of a flow; returns a TC action or NOT_PLAIN. An entry that is reused for
 * another key meanwhile shows another stamp, before anything of it is believed. */
static __always_inline int pass_plain_of(struct __sk_buff *ctx, const struct plain *plain,
					 struct ct_entry *entry, __u32 tag)
{
	struct ct_side *side = side_of(entry, plain->from);
	__u32 stamp = *(volatile __u32 *)&entry->stamp;
	struct ct_side known;
	__u32 identity;
	int verdict;

	if (!is_stamped(stamp, change_word(), tag) || entry->state & CT_CARE)
		return NOT_PLAIN;
	if (side->source_ifindex != ctx->ifindex)
		return NOT_PLAIN;
	if (is_trace_due(side, coarse_now()))
		return NOT_PLAIN;
	identity = identity_of(entry, plain->from);
	known.tunnel = side->tunnel;
	known.ifindex = side->ifindex;
	__builtin_memcpy(known.mac, side->mac, sizeof(known.mac));
	if (*(volatile __u32 *)&entry->stamp != stamp)
		return NOT_PLAIN;
	verdict = send_plain(ctx, &known, identity);
	if (verdict < 0)
		return NOT_PLAIN;
	ct_account(entry, side, plain->tcp_flags, plain->acknowledged, ctx->len);
	count(FORWARDED, HOOK_FROM_POD, ctx->len);
	return verdict;
}

/* Pass a packet that a pod sent, if it is plain; returns a TC action or NOT_PLAIN. */
static __noinline int pass_plain(struct __sk_buff *ctx)
{
	const void *frame = (void *)(long)ctx->data;
	const __be16 *protocol = frame + offsetof(struct ethhdr, h_proto);
	struct ct_entry *entry;
	struct plain plain;

	if (!has_front_path || !is_in_frame(ctx, frame + ETH_HLEN))
		return NOT_PLAIN;
	if (*protocol == bpf_htons(ETH_P_IP)) {
		if (!read_plain_ipv4(ctx, frame + ETH_HLEN, &plain))
			return NOT_PLAIN;
		entry = bpf_map_lookup_elem(&cilia_ct4, &plain.key.ipv4);
		return entry ? pass_plain_of(ctx, &plain, entry, tag_of(4, &plain.key)) : NOT_PLAIN;
	}
	if (*protocol != bpf_htons(ETH_P_IPV6) || !read_plain_ipv6(ctx, frame + ETH_HLEN, &plain))
		return NOT_PLAIN;
	entry = bpf_map_lookup_elem(&cilia_ct6, &plain.key.ipv6);
	return entry ? pass_plain_of(ctx, &plain, entry, tag_of(6, &plain.key)) : NOT_PLAIN;
}
