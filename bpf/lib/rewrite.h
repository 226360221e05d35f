/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Rewriting of an address and a port of a packet, every checksum kept right. */
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

#include "lib/address.h"
#include "lib/config.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/packet.h"

#define TCP_CHECKSUM_OFFSET  16
#define UDP_CHECKSUM_OFFSET  6
#define ICMP_CHECKSUM_OFFSET 2
#define ICMP_ID_OFFSET       4

/* Address and port of a packet's source or destination, as they are and as they shall be. */
struct rewrite {
	struct address from;
	struct address to;
	__be16 port_from;
	__be16 port_to;
	__u8 is_source;
	__u8 is_ipv6;
	__u8 protocol; /* protocol that the port belongs to */
	__u8 pad;
};

/* Offset of the address in an IP header that begins at `header`. */
static __always_inline __u32 address_offset(const struct rewrite *rewrite, __u32 header,
					    bool is_source)
{
	if (rewrite->is_ipv6)
		return header + (is_source ? offsetof(struct ipv6hdr, saddr)
					   : offsetof(struct ipv6hdr, daddr));
	return header + (is_source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
}

/* Offset of the port in a header that begins at `l4`. */
static __always_inline __u32 port_offset(const struct rewrite *rewrite, __u32 l4, bool is_source)
{
	if (rewrite->protocol == IPPROTO_ICMP || rewrite->protocol == IPPROTO_ICMP6)
		return l4 + ICMP_ID_OFFSET;
	return l4 + (is_source ? 0 : sizeof(__be16));
}

/* Write the address into the header at `header`, whose own checksum stays right; non-zero on
 * failure. */
static __always_inline int rewrite_ip(struct __sk_buff *ctx, const struct rewrite *rewrite,
				      __u32 header, bool is_source)
{
	__u32 offset = address_offset(rewrite, header, is_source);

	if (rewrite->is_ipv6)
		return bpf_skb_store_bytes(ctx, offset, &rewrite->to, sizeof(rewrite->to), 0);
	if (bpf_l3_csum_replace(ctx, header + offsetof(struct iphdr, check),
				ipv4_of(&rewrite->from), ipv4_of(&rewrite->to), sizeof(__be32)))
		return -1;
	return bpf_skb_store_bytes(ctx, offset, &rewrite->to.byte[12], sizeof(__be32), 0);
}

static __always_inline __u32 checksum_offset(__u8 protocol, __u32 l4)
{
	if (protocol == IPPROTO_TCP)
		return l4 + TCP_CHECKSUM_OFFSET;
	return l4 + (protocol == IPPROTO_UDP ? UDP_CHECKSUM_OFFSET : ICMP_CHECKSUM_OFFSET);
}

/* Update a checksum with a pseudo-header, at `offset`, for the change of the address. */
static __always_inline int update_checksum(struct __sk_buff *ctx, const struct rewrite *rewrite,
					   __u32 offset, __u64 flags)
{
	__u32 bytes = rewrite->is_ipv6 ? sizeof(struct address) : sizeof(__be32);
	__u32 first = sizeof(struct address) - bytes;
	__s64 difference;

	difference = bpf_csum_diff((void *)&rewrite->from.byte[first], bytes,
				   (void *)&rewrite->to.byte[first], bytes, 0);
	flags |= rewrite->is_ipv6 ? ipv6_checksum_flag : 0;
	return bpf_l4_csum_replace(ctx, offset, 0, difference, BPF_F_PSEUDO_HDR | flags);
}

/* Rewrite a packet that isn't an ICMP error; returns 0 or a verdict. */
static __noinline int rewrite_packet(struct __sk_buff *ctx, const struct packet *packet,
				     const struct rewrite *rewrite)
{
	__u32 l4 = packet->offset & (MAX_L4_OFFSET - 1),
	      offset = checksum_offset(rewrite->protocol, l4);
	__u64 flags = rewrite->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (rewrite_ip(ctx, rewrite, ETH_HLEN, rewrite->is_source))
		return -DROP_INVALID_PACKET;
	if (packet->fragment == FRAGMENT_LATER)
		return 0;
	if (rewrite->protocol != IPPROTO_ICMP && update_checksum(ctx, rewrite, offset, flags))
		return -DROP_INVALID_PACKET;
	if (rewrite->port_from == rewrite->port_to)
		return 0;
	if (bpf_l4_csum_replace(ctx, offset, rewrite->port_from, rewrite->port_to,
				flags | sizeof(__be16)))
		return -DROP_INVALID_PACKET;
	offset = port_offset(rewrite, l4, rewrite->is_source);
	return bpf_skb_store_bytes(ctx, offset, &rewrite->port_to, sizeof(__be16), 0)
		   ? -DROP_INVALID_PACKET
		   : 0;
}

/* Rewrite an ICMP error: its own header, and the other address of the packet that it quotes. The
 * checksum of a quoted TCP or UDP header is left, since nobody looks at it. Returns 0 or a verdict.
 */
static __noinline int rewrite_error(struct __sk_buff *ctx, const struct packet *packet,
				    const struct rewrite *rewrite)
{
	__u32 icmp = packet->offset & (MAX_L4_OFFSET - 1), quoted = icmp + sizeof(struct icmp_echo);
	__u32 offset = icmp + ICMP_CHECKSUM_OFFSET;

	if (rewrite_ip(ctx, rewrite, ETH_HLEN, rewrite->is_source) ||
	    rewrite_ip(ctx, rewrite, quoted, !rewrite->is_source))
		return -DROP_INVALID_PACKET;
	if (rewrite->is_ipv6 &&
	    (update_checksum(ctx, rewrite, offset, 0) || update_checksum(ctx, rewrite, offset, 0)))
		return -DROP_INVALID_PACKET;
	if (!packet->quoted || rewrite->port_from == rewrite->port_to)
		return 0;
	if (bpf_l4_csum_replace(ctx, offset, rewrite->port_from, rewrite->port_to, sizeof(__be16)))
		return -DROP_INVALID_PACKET;
	offset = port_offset(rewrite, packet->quoted, !rewrite->is_source);
	return bpf_skb_store_bytes(ctx, offset, &rewrite->port_to, sizeof(__be16), 0)
		   ? -DROP_INVALID_PACKET
		   : 0;
}
