/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IPv4 addresses as the maps have them. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"
#include "maps/policy.h"

static __always_inline void map_ipv4(struct address *mapped, __be32 ipv4)
{
	__u32 *word = (__u32 *)mapped;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ipv4;
}

/* Index into cilia_addresses: the last two bytes of the address. The pods of a node differ in them. */
static __always_inline __u32 bucket_of(__be32 ipv4)
{
	return bpf_ntohl(ipv4) % ADDRESS_BUCKETS;
}
