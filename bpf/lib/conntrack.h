/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Connection tracking: keys of flows, whether what was decided still holds, and accounting.
 *
 * Side: 0 or 1, one of a flow's two ends; which is which tells its key (maps/conntrack.h).
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/icmp.h"
#include "lib/packet.h"
#include "lib/policy.h"
#include "maps/conntrack.h"

/* Key of a flow of either family. */
union ct_key {
	struct ct4_key ipv4;
	struct ct6_key ipv6;
} __attribute__((aligned(8)));

/* Side of a flow. Written as a choice of two, since the verifier knows no bounds of an index that
 * the compiler has computed. */
static __always_inline struct ct_side *side_of(struct ct_entry *entry, __u32 side)
{
	return side ? &entry->side[1] : &entry->side[0];
}

static __always_inline __u32 identity_of(const struct ct_entry *entry, __u32 side)
{
	return side ? entry->identity[1] : entry->identity[0];
}

/* Number by which the ends of an IPv4 flow are ordered. */
static __always_inline __u64 ct4_order(__be32 address, __be16 port)
{
	return (__u64)bpf_ntohl(address) << 16 | bpf_ntohs(port);
}

/* Make the key of the flow between two ends; returns the side that the source is. */
static __always_inline __u32 ct4_key_between(struct ct4_key *key, __be32 source, __be32 destination,
					     __be16 source_port, __be16 destination_port,
					     __u8 protocol)
{
	key->protocol = protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
	if (ct4_order(source, source_port) <= ct4_order(destination, destination_port)) {
		key->address[0] = source;
		key->address[1] = destination;
		key->port[0] = source_port;
		key->port[1] = destination_port;
		return 0;
	}
	key->address[0] = destination;
	key->address[1] = source;
	key->port[0] = destination_port;
	key->port[1] = source_port;
	return 1;
}

/* Identifier that stands for 0 in the key of an echo, so that the end that asked can be told from
 * the other: else the answers to one end's questions would be questions of the other. */
#define ECHO_ID_ZERO bpf_htons(0xffff)

static __always_inline bool is_echo_zero(const struct packet *packet)
{
	return is_icmp(packet) && !packet->source_port && !packet->destination_port;
}

static __always_inline __be16 source_port_of(const struct packet *packet)
{
	if (is_echo_zero(packet) && packet->icmp_type == echo_type(packet))
		return ECHO_ID_ZERO;
	return packet->source_port;
}

static __always_inline __be16 destination_port_of(const struct packet *packet)
{
	if (is_echo_zero(packet) && packet->icmp_type != echo_type(packet))
		return ECHO_ID_ZERO;
	return packet->destination_port;
}

static __always_inline __u32 ct4_key_of(const struct packet *packet, struct ct4_key *key)
{
	return ct4_key_between(key, ipv4_of(&packet->source), ipv4_of(&packet->destination),
			       source_port_of(packet), destination_port_of(packet),
			       packet->protocol);
}

/* `half` 0 or 1 of an address, as a number. */
static __always_inline __u64 half_of(const struct address *address, __u32 half)
{
	return bpf_be64_to_cpu(((const __be64 *)address->byte)[half]);
}

static __always_inline bool is_source_lower(const struct address *source,
					    const struct address *destination, __be16 source_port,
					    __be16 destination_port)
{
	__u64 one = half_of(source, 0), other = half_of(destination, 0);

	if (one != other)
		return one < other;
	one = half_of(source, 1);
	other = half_of(destination, 1);
	if (one != other)
		return one < other;
	return bpf_ntohs(source_port) <= bpf_ntohs(destination_port);
}

static __always_inline __u32 ct6_key_between(struct ct6_key *key, const struct address *source,
					     const struct address *destination, __be16 source_port,
					     __be16 destination_port, __u8 protocol)
{
	key->protocol = protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
	if (is_source_lower(source, destination, source_port, destination_port)) {
		key->address[0] = *source;
		key->address[1] = *destination;
		key->port[0] = source_port;
		key->port[1] = destination_port;
		return 0;
	}
	key->address[0] = *destination;
	key->address[1] = *source;
	key->port[0] = destination_port;
	key->port[1] = source_port;
	return 1;
}

static __always_inline __u32 ct6_key_of(const struct packet *packet, struct ct6_key *key)
{
	return ct6_key_between(key, &packet->source, &packet->destination, source_port_of(packet),
			       destination_port_of(packet), packet->protocol);
}

/* Make the key of a packet's flow; returns the side that sent it. */
static __always_inline __u32 ct_key_of(const struct packet *packet, union ct_key *key)
{
	return packet->family == 6 ? ct6_key_of(packet, &key->ipv6)
				   : ct4_key_of(packet, &key->ipv4);
}

/* Odd numbers that spread bits; from the golden ratio and XXH64. */
#define TAG_PRIME_1 0x9e3779b97f4a7c15ULL
#define TAG_PRIME_2 0xc2b2ae3d27d4eb4fULL
#define TAG_PRIME_3 0x165667b19e3779f9ULL

/* Tag by which a flow's entry is known to be that of a key. The kernel gives an entry that was
 * removed to another key at once (kernel/bpf/hashtab.c), while a program that was interrupted
 * between lookup and use still reads it. */
static __always_inline __u32 tag_of(__u32 family, const union ct_key *key)
{
	const __u64 *word = (const __u64 *)key;

	if (family == 6)
		return (word[0] ^ word[2] ^ word[1] * TAG_PRIME_1 ^ word[3] * TAG_PRIME_2 ^
			word[4] * TAG_PRIME_3) >>
		       32;
	return (word[0] * TAG_PRIME_1 ^ word[1] * TAG_PRIME_2) >> 32;
}

/* Look a flow up. The barrier keeps the compiler from making one call with either map of the two:
 * it couldn't be inlined, and cost 22 ns more. */
static __always_inline struct ct_entry *lookup_flow(const struct packet *packet,
						    const union ct_key *key)
{
	struct ct_entry *entry;

	if (packet->family == 6) {
		entry = bpf_map_lookup_elem(&cilia_ct6, &key->ipv6);
		barrier_var(entry);
		return entry;
	}
	return bpf_map_lookup_elem(&cilia_ct4, &key->ipv4);
}

static __always_inline int update_flow(const struct packet *packet, const union ct_key *key,
				       const struct ct_entry *entry, __u64 flags)
{
	if (packet->family == 6)
		return bpf_map_update_elem(&cilia_ct6, &key->ipv6, entry, flags);
	return bpf_map_update_elem(&cilia_ct4, &key->ipv4, entry, flags);
}

static __always_inline __u32 owner_changes(__u32 bucket)
{
	__u32 *changes = bpf_map_lookup_elem(&cilia_addresses, &bucket);

	return changes ? *(volatile __u32 *)changes : 0;
}

/* Make the generation of a flow: the sum of the revisions of its local sides' policies, which are
 * read into `low` and `high`, and of `changes`, how often the owners of its addresses changed. All
 * of them only grow. Returns 0, which no flow's generation is, if a slot has no policy in force;
 * slot 0: that side isn't local. */
static __always_inline __u32 generation_of(const __u16 *slot, __u32 changes,
					   struct policy_version *low, struct policy_version *high)
{
	__u32 epoch = policy_epoch(), sum = changes;

	if (slot[0]) {
		if (!version_at(slot[0], epoch, low))
			return 0;
		sum += low->revision;
	}
	if (slot[1]) {
		if (!version_at(slot[1], epoch, high))
			return 0;
		sum += high->revision;
	}
	return sum ? sum : 1;
}

static __always_inline __u32 change_word(void)
{
	__u32 zero = 0, *word = bpf_map_lookup_elem(&cilia_change, &zero);

	return word ? *(volatile __u32 *)word : CHANGE_UNDER_WAY;
}

/* Stamp of an entry that holds at a word of cilia_change; if a change was under way then, one that
 * never holds. */
static __always_inline __u32 stamp_of(__u32 word, __u32 tag)
{
	return (word & ~CHANGE_UNDER_WAY) ^ tag;
}

/* Tell whether nothing at all has changed since an entry, of the key with this tag, was stamped. */
static __always_inline bool is_stamped(__u32 stamp, __u32 word, __u32 tag)
{
	return stamp == (word ^ tag);
}

/* Tell whether nothing has changed since the flow was let pass, and the entry still is that of the
 * key with this tag; then it is stamped. A local side whose policy is withdrawn is a change. */
static __always_inline bool is_current(__u32 generation, struct ct_entry *entry, __u32 tag)
{
	struct policy_version low, high;
	__u32 word = change_word(), changes;

	if (is_stamped(entry->stamp, word, tag))
		return true;
	changes = owner_changes(entry->bucket[0]) + owner_changes(entry->bucket[1]);
	if (generation != (generation_of(entry->policy_slot, changes, &low, &high) ^ tag))
		return false;
	entry->stamp = stamp_of(word, tag);
	return true;
}

static __always_inline bool is_closed(const struct ct_entry *entry)
{
	return entry->state & CT_RESET || (entry->state & CT_ENDED) == CT_ENDED;
}

static __always_inline bool is_syn(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN;
}

/* Tell whether a packet begins a new connection in place of the known one: where that has been
 * closed, or nobody knows who began it, or its responder begins one of its own; but nothing that a
 * responder sends frees a flow that is denied. */
static __always_inline bool is_reopening(const struct ct_entry *entry, const struct packet *packet,
					 __u32 from)
{
	if (!is_syn(packet))
		return false;
	return is_closed(entry) || entry->state & CT_MIDWAY ||
	       (entry->initiator != from && !(entry->state & CT_DENIED));
}

/* Flags of TCP that begin or end a connection. */
#define RARE_TCP_FLAGS (TCP_FIN | TCP_SYN | TCP_RST)

static __always_inline bool is_trace_due(const struct ct_side *side, __u32 now)
{
	return trace_ticks && now - side->traced >= trace_ticks;
}

/* Account for a packet; tells whether it is time to trace the flow: its side shows one of
 * RARE_TCP_FLAGS for the first time, or was last reported `trace_ticks` ago. Plain adds: two CPUs
 * that carry the same direction of a flow may lose a count, and a TCP flag of one packet. */
static __always_inline bool ct_account(struct ct_entry *entry, struct ct_side *side, __u8 tcp_flags,
				       __be32 acknowledged, __u32 bytes)
{
	__u8 fresh = tcp_flags & ~side->tcp_flags;
	__u32 now = coarse_now();

	side->packets++;
	side->bytes += bytes;
	if (fresh)
		side->tcp_flags |= tcp_flags;
	if (tcp_flags & TCP_ACK)
		side->acknowledged = bpf_ntohl(acknowledged);
	if (entry->last_seen != now)
		entry->last_seen = now;
	if (!trace_ticks || (!(fresh & RARE_TCP_FLAGS) && !is_trace_due(side, now)))
		return false;
	side->traced = now;
	return true;
}
