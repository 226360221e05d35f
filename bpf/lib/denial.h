/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Short memory of denials: what a sender may not begin is dropped without asking policy again,
 * until something changes. A flood of denied packets so costs little more than to read them.
 *
 * A denial is of whoever begins a flow towards {address, protocol, port}, from any port of its own.
 * Each CPU has memories of its own, found by a hash: a later denial takes the place of another. No
 * flow's entry makes room for one.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/conntrack.h"
#include "lib/cursor.h"
#include "lib/drop.h"
#include "lib/event.h"
#include "lib/icmp.h"
#include "lib/packet.h"

#define DENIALS 1024 /* for each CPU; a power of two */

struct denial {
	struct address source;
	struct address destination;
	__u32 ifindex;  /* device by which the packets come */
	__u32 identity; /* from the overlay: the sender's */
	__be32 tunnel;  /* from the overlay: the node that sent them */
	__be16 port;    /* destination's; of an echo 0 */
	__u8 protocol;
	__u8 hook;
	__u8 mac[ETH_ALEN]; /* sender's */
	__u8 reason;        /* enum drop_reason; 0: nothing is remembered here */
	__u8 pad;
	__u32 stamp; /* see cilia_change */
	struct findings findings;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DENIALS);
	__type(key, __u32);
	__type(value, struct denial);
} cilia_denials SEC(".maps");

static __always_inline __be16 denied_port(const struct packet *packet)
{
	return is_icmp(packet) ? 0 : packet->destination_port;
}

/* Memory in which a packet's denial would be; NULL can't be. */
static __always_inline struct denial *denial_of(const struct packet *packet)
{
	__u64 hash = half_of(&packet->source, 1) * TAG_PRIME_1 ^
		     half_of(&packet->destination, 1) * TAG_PRIME_2 ^
		     ((__u32)packet->protocol << 16 | denied_port(packet)) * TAG_PRIME_3;
	__u32 index = hash >> 40 & (DENIALS - 1);

	return bpf_map_lookup_elem(&cilia_denials, &index);
}

/* Tell whether a frame's sender has this MAC address. */
static __always_inline bool has_mac(struct __sk_buff *ctx, const __u8 *mac)
{
	const struct ethhdr *ethernet = frame_bytes(ctx, sizeof(*ethernet));

	return ethernet && *(const __u32 *)ethernet->h_source == *(const __u32 *)mac &&
	       *(const __u16 *)(ethernet->h_source + 4) == *(const __u16 *)(mac + 4);
}

/* Tell whether a denial still holds, and is of what this packet begins. */
static __always_inline bool is_denial_of(struct __sk_buff *ctx, const struct denial *denial,
					 const struct packet *packet)
{
	return denial->reason && is_stamped(denial->stamp, change_word(), 0) &&
	       denial->ifindex == ctx->ifindex && denial->identity == packet->identity &&
	       denial->tunnel == packet->tunnel && denial->port == denied_port(packet) &&
	       denial->protocol == packet->protocol && denial->hook == packet->hook &&
	       is_same_address(&denial->source, &packet->source) &&
	       is_same_address(&denial->destination, &packet->destination) &&
	       has_mac(ctx, denial->mac);
}

/* Drop a packet of no known flow if what it begins is remembered as denied; tells whether it was.
 */
static __noinline bool drop_remembered(struct __sk_buff *ctx, const struct packet *packet)
{
	const struct denial *denial = denial_of(packet);

	if (!denial || !is_denial_of(ctx, denial, packet) || packet->is_error ||
	    is_echo_reply(packet))
		return false;
	drop(ctx, packet, &denial->findings, -(int)denial->reason);
	return true;
}

/* Remember that what a packet begins was denied, by policy as it was at a
 * word of cilia_change. */
static __noinline void remember_denial(struct __sk_buff *ctx, const struct packet *packet,
				       const struct findings *findings, __u32 word, __u8 reason)
{
	const struct ethhdr *ethernet = frame_bytes(ctx, sizeof(*ethernet));
	struct denial *denial = denial_of(packet);

	if (!denial || !ethernet)
		return;
	denial->source = packet->source;
	denial->destination = packet->destination;
	denial->ifindex = ctx->ifindex;
	denial->identity = packet->identity;
	denial->tunnel = packet->tunnel;
	denial->port = denied_port(packet);
	denial->protocol = packet->protocol;
	denial->hook = packet->hook;
	__builtin_memcpy(denial->mac, ethernet->h_source, ETH_ALEN);
	denial->reason = reason;
	denial->stamp = stamp_of(word, 0);
	denial->findings = *findings;
}
