/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses of either family, as the maps have them. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"
#include "maps/policy.h"

static __always_inline __be32 *words_of(struct address *address)
{
	return (__be32 *)address->byte;
}

static __always_inline __be32 word_of(const struct address *address, __u32 index)
{
	return ((const __be32 *)address->byte)[index];
}

/* The last four bytes: all of an IPv4 address. */
static __always_inline __be32 ipv4_of(const struct address *address)
{
	return word_of(address, 3);
}

static __always_inline void map_ipv4(struct address *mapped, __be32 ipv4)
{
	__be32 *word = words_of(mapped);

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = ipv4;
}

/* Tell whether an address is one of IPv4, as the maps have it; no packet of IPv6 has such a one. */
static __always_inline bool is_ipv4(const struct address *address)
{
	return word_of(address, 2) == bpf_htonl(0xffff) && !word_of(address, 1) &&
	       !word_of(address, 0);
}

static __always_inline bool is_same_address(const struct address *one, const struct address *other)
{
	return word_of(one, 3) == word_of(other, 3) && word_of(one, 2) == word_of(other, 2) &&
	       word_of(one, 1) == word_of(other, 1) && word_of(one, 0) == word_of(other, 0);
}

static __always_inline bool is_no_address(const struct address *address)
{
	return !(word_of(address, 0) | word_of(address, 1) | word_of(address, 2) |
		 word_of(address, 3));
}

static __always_inline bool is_loopback(const struct address *address)
{
	if (is_ipv4(address))
		return address->byte[12] == 127;
	return word_of(address, 3) == bpf_htonl(1) &&
	       !(word_of(address, 0) | word_of(address, 1) | word_of(address, 2));
}

/* Tell whether no single host can be meant by an address where pods are concerned: loopback,
 * multicast, unspecified, reserved (RFC 1122, 3.2.1.3; RFC 4291, 2.4), and link-local of IPv6,
 * since a pod's link has no other host. */
static __always_inline bool is_martian(const struct address *address)
{
	__u8 first = address->byte[12];

	if (is_ipv4(address))
		return !first || first == 127 || first >= 224;
	return address->byte[0] == 0xff ||
	       (address->byte[0] == 0xfe && (address->byte[1] & 0xc0) == 0x80) ||
	       is_no_address(address) || is_loopback(address);
}

/* Index into cilia_addresses: the last two bytes of the address. The pods of a node differ in them.
 */
static __always_inline __u32 bucket_of(const struct address *address)
{
	return bpf_ntohl(ipv4_of(address)) % ADDRESS_BUCKETS;
}
