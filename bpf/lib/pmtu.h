/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Path MTU discovery: errors to pods whose packets don't fit into the tunnel (RFC 1191, RFC 4443).
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/checksum.h"
#include "lib/config.h"
#include "lib/cursor.h"
#include "lib/icmp.h"
#include "lib/l4.h"
#include "lib/locate.h"
#include "lib/packet.h"

#define IP_DONT_FRAGMENT   0x4000
#define ICMP_FRAGMENTATION 4
#define QUOTED_IPV4        68 /* the longest header and 8 bytes */
#define QUOTED_IPV6        88 /* the header and 48 bytes */
#define ERROR_HOPS         64

/* Header of both errors. */
struct too_big_error {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 mtu; /* IPv4: in the lower half */
};

struct too_big_ipv4 {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct too_big_error error;
	__u8 quoted[QUOTED_IPV4];
} __attribute__((packed));

struct too_big_ipv6 {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct too_big_error error;
	__u8 quoted[QUOTED_IPV6];
} __attribute__((packed));

/* Bytes from the IP header on of the longest packet that this one becomes on the wire. */
static __always_inline __u32 wire_bytes(struct __sk_buff *ctx, const struct packet *packet)
{
	__u32 header = packet->offset - ETH_HLEN;
	__u8 tcp_words = 0;

	if (!ctx->gso_size)
		return ctx->len - ETH_HLEN;
	if (packet->protocol != IPPROTO_TCP)
		return header + L4_PORTS_BYTES + ctx->gso_size;
	bpf_skb_load_bytes(ctx, packet->offset + TCP_LENGTH_OFFSET, &tcp_words, sizeof(tcp_words));
	return header + (tcp_words >> 4) * 4 + ctx->gso_size;
}

/* Tell whether no fragment of a packet fits; IPv4 that may be fragmented is, by the tunnel. */
static __noinline bool is_over_mtu(struct __sk_buff *ctx, const struct packet *packet)
{
	__be16 flags = 0;

	if (wire_bytes(ctx, packet) <= overlay_mtu)
		return false;
	if (packet->family == 6)
		return true;
	bpf_skb_load_bytes(ctx, ETH_HLEN + offsetof(struct iphdr, frag_off), &flags, sizeof(flags));
	return flags & bpf_htons(IP_DONT_FRAGMENT);
}

static __always_inline bool is_too_big(struct __sk_buff *ctx, const struct packet *packet)
{
	return overlay_mtu && ctx->len > overlay_mtu + ETH_HLEN && is_over_mtu(ctx, packet);
}

static __always_inline void turn_around(struct ethhdr *ethernet)
{
	__builtin_memcpy(ethernet->h_dest, ethernet->h_source, ETH_ALEN);
	write_gateway_mac(ethernet->h_source);
}

/* Cut a packet to what an error quotes of it, and make room for headers before it. */
static __always_inline int quote(struct __sk_buff *ctx, __u32 whole, __u32 room)
{
	if (bpf_skb_change_tail(ctx, whole - room, 0))
		return -1;
	if (bpf_skb_adjust_room(ctx, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -1;
	return bpf_skb_pull_data(ctx, whole);
}

static __always_inline int answer_ipv4(struct __sk_buff *ctx, const struct packet *packet)
{
	const struct address *gateway = gateway_for(4);
	struct too_big_ipv4 *answer;

	if (!gateway || quote(ctx, sizeof(*answer), sizeof(answer->ip) + sizeof(answer->error)))
		return -1;
	answer = frame_bytes(ctx, sizeof(*answer));
	if (!answer)
		return -1;
	turn_around(&answer->ethernet);
	answer->ip = (struct iphdr){
	    .version = 4,
	    .ihl = sizeof(answer->ip) / 4,
	    .tot_len = bpf_htons(sizeof(*answer) - ETH_HLEN),
	    .ttl = ERROR_HOPS,
	    .protocol = IPPROTO_ICMP,
	    .saddr = ipv4_of(gateway),
	    .daddr = ipv4_of(&packet->source),
	};
	answer->ip.check = checksum((void *)answer + ETH_HLEN, sizeof(answer->ip));
	answer->error = (struct too_big_error){
	    .type = ICMP_DEST_UNREACH,
	    .code = ICMP_FRAGMENTATION,
	    .mtu = bpf_htonl(overlay_mtu),
	};
	answer->error.checksum = checksum((void *)answer + offsetof(struct too_big_ipv4, error),
					  sizeof(answer->error) + QUOTED_IPV4);
	return 0;
}

static __always_inline int answer_ipv6(struct __sk_buff *ctx, const struct packet *packet)
{
	const struct address *gateway = gateway_for(6);
	const __u32 bytes = sizeof(struct too_big_error) + QUOTED_IPV6;
	struct too_big_ipv6 *answer;

	if (!gateway || quote(ctx, sizeof(*answer), sizeof(answer->ip) + sizeof(answer->error)))
		return -1;
	answer = frame_bytes(ctx, sizeof(*answer));
	if (!answer)
		return -1;
	turn_around(&answer->ethernet);
	answer->ip = (struct ipv6hdr){
	    .version = 6,
	    .payload_len = bpf_htons(bytes),
	    .nexthdr = IPPROTO_ICMP6,
	    .hop_limit = ERROR_HOPS,
	};
	for (int i = 0; i < 4; i++) {
		answer->ip.saddr.s6_addr32[i] = word_of(gateway, i);
		answer->ip.daddr.s6_addr32[i] = word_of(&packet->source, i);
	}
	answer->error =
	    (struct too_big_error){.type = ICMP6_PACKET_TOO_BIG, .mtu = bpf_htonl(overlay_mtu)};
	answer->error.checksum =
	    icmp6_checksum((void *)answer + ETH_HLEN + offsetof(struct ipv6hdr, saddr),
			   (void *)answer + offsetof(struct too_big_ipv6, error), bytes);
	return 0;
}

/* Turn a packet of a pod, already dropped, into the error about it, and send that back; returns a
 * TC action. */
static __noinline int answer_too_big(struct __sk_buff *ctx, const struct packet *packet)
{
	if (packet->family == 6 ? answer_ipv6(ctx, packet) : answer_ipv4(ctx, packet))
		return TC_ACT_SHOT;
	return bpf_redirect_peer(ctx->ifindex, 0);
}
