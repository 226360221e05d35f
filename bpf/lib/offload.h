/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Offloads that a packet asks for: what is done to it later must not change what was judged.
 *
 * A pod says by PACKET_VNET_HDR where a checksum is to be written, and how a long packet is to be
 * cut. struct __sk_buff doesn't tell, so the kernel's own buffer is read where that is allowed
 * (Linux 6.2); otherwise the defence is off, and the agent's status says so.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "lib/config.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/l4.h"
#include "lib/packet.h"
#include "lib/rewrite.h"

#define CHECKSUM_PARTIAL 3 /* linux/skbuff.h of the kernel, as all of this */

enum {
	GSO_TCPV4 = 1 << 0,
	GSO_UDP = 1 << 1,
	GSO_TCPV6 = 1 << 4,
	GSO_TUNNEL = 0x3f << 6, /* GRE, IP in IP, UDP tunnels, each with or without checksum */
	GSO_UDP_L4 = 1 << 17,
};

struct sk_buff___offload {
	__u8 ip_summed : 2;
	__u16 csum_start; /* from `head` on */
	__u16 csum_offset;
	unsigned int end; /* end of the linear part, from `head` on; there the shared info is */
	unsigned char *head;
	unsigned char *data;
} __attribute__((preserve_access_index));

struct skb_shared_info {
	unsigned int gso_type;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

/* Tell whether a checksum that is summed up from `start` on, and written `field` bytes behind that,
 * is that of the packet's own header, or lies behind all that was read: a pod's own tunnel has it
 * there. */
static __always_inline bool fits_checksum(const struct packet *packet, __u32 start, __u32 field)
{
	__u32 l4 = packet->offset, bytes = L4_PORTS_BYTES;

	if (packet->fragment == FRAGMENT_LATER)
		return start >= l4;
	if (packet->is_error)
		return false;
	if (start == l4)
		return l4 + field == checksum_offset(packet->protocol, l4);
	if (packet->protocol == IPPROTO_TCP)
		bytes = TCP_HEADER_BYTES;
	return start >= l4 + bytes;
}

/* Tell whether a checksum that is still to be made is that of the TCP or UDP header at `l4`. */
static __always_inline bool has_plain_checksum(struct __sk_buff *ctx, __u8 protocol, __u32 l4)
{
	const struct sk_buff___offload *skb;

	if (!reads_offload)
		return true;
	skb = bpf_cast_to_kern_ctx(ctx);
	if (BPF_CORE_READ_BITFIELD(skb, ip_summed) != CHECKSUM_PARTIAL)
		return true;
	return skb->csum_start - (__u32)(skb->data - skb->head) == l4 &&
	       l4 + skb->csum_offset == checksum_offset(protocol, l4);
}

/* Tell whether a packet that is to be cut is of the kind that its headers say; fragments are none.
 */
static __always_inline bool fits_segmentation(const struct packet *packet, __u32 type)
{
	if (packet->fragment || packet->is_error)
		return false;
	if (packet->protocol == IPPROTO_TCP)
		return type & (packet->family == 6 ? GSO_TCPV6 : GSO_TCPV4) &&
		       !(type & (GSO_UDP | GSO_UDP_L4 | GSO_TUNNEL));
	if (packet->protocol == IPPROTO_UDP)
		return type & (GSO_UDP | GSO_UDP_L4 | GSO_TUNNEL);
	return type & GSO_TUNNEL;
}

/* Check the offloads of a packet that a pod sends; returns 0 or a verdict. */
static __always_inline int check_offload(struct __sk_buff *ctx, const struct packet *packet)
{
	const struct skb_shared_info *shared;
	const struct sk_buff___offload *skb;

	if (!reads_offload)
		return 0;
	skb = bpf_cast_to_kern_ctx(ctx);
	if (BPF_CORE_READ_BITFIELD(skb, ip_summed) == CHECKSUM_PARTIAL &&
	    !fits_checksum(packet, skb->csum_start - (__u32)(skb->data - skb->head),
			   skb->csum_offset))
		return -DROP_INVALID_OFFLOAD;
	if (!ctx->gso_size)
		return 0;
	shared =
	    bpf_rdonly_cast(skb->head + skb->end, bpf_core_type_id_kernel(struct skb_shared_info));
	return fits_segmentation(packet, shared->gso_type) ? 0 : -DROP_INVALID_OFFLOAD;
}
