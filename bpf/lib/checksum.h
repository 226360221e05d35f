/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Internet checksums (RFC 1071) of headers that the programs write themselves. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/packet.h"

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Checksum of `bytes`, a multiple of 4 and a constant, whose own checksum field is 0. */
static __always_inline __sum16 checksum(void *start, __u32 bytes)
{
	return fold(bpf_csum_diff(NULL, 0, start, bytes, 0));
}

/* Checksum with the pseudo-header of RFC 8200, section 8.1; `addresses` are source and destination
 * in a row, as the IPv6 header has them. */
static __always_inline __sum16 icmp6_checksum(void *addresses, void *start, __u32 bytes)
{
	struct {
		__be32 length;
		__be32 protocol;
	} tail = {bpf_htonl(bytes), bpf_htonl(IPPROTO_ICMP6)};
	__s64 sum;

	sum = bpf_csum_diff(NULL, 0, addresses, 2 * sizeof(struct address), 0);
	sum = bpf_csum_diff(NULL, 0, (void *)&tail, sizeof(tail), sum);
	return fold(bpf_csum_diff(NULL, 0, start, bytes, sum));
}
