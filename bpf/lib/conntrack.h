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
#include "lib/packet.h"
#include "lib/policy.h"
#include "maps/conntrack.h"

/* Key of a flow of either family. */
union ct_key {
	struct ct4_key ipv4;
	struct ct6_key ipv6;
};

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
static __always_inline __u64 ct4_order(const struct address *address, __be16 port)
{
	return (__u64)bpf_ntohl(ipv4_of(address)) << 16 | bpf_ntohs(port);
}

static __always_inline __u32 ct4_key_of(const struct packet *packet, struct ct4_key *key)
{
	__u32 from = ct4_order(&packet->source, packet->source_port) >
		     ct4_order(&packet->destination, packet->destination_port);

	key->protocol = packet->protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
	if (!from) {
		key->address[0] = ipv4_of(&packet->source);
		key->address[1] = ipv4_of(&packet->destination);
		key->port[0] = packet->source_port;
		key->port[1] = packet->destination_port;
		return 0;
	}
	key->address[0] = ipv4_of(&packet->destination);
	key->address[1] = ipv4_of(&packet->source);
	key->port[0] = packet->destination_port;
	key->port[1] = packet->source_port;
	return 1;
}

/* `half` 0 or 1 of an address in struct packet, as a number. */
static __always_inline __u64 half_of(const struct address *address, __u32 half)
{
	return bpf_be64_to_cpu(((const __be64 *)address->byte)[half]);
}

static __always_inline bool is_source_lower(const struct packet *packet)
{
	__u64 source = half_of(&packet->source, 0), destination = half_of(&packet->destination, 0);

	if (source != destination)
		return source < destination;
	source = half_of(&packet->source, 1);
	destination = half_of(&packet->destination, 1);
	if (source != destination)
		return source < destination;
	return bpf_ntohs(packet->source_port) <= bpf_ntohs(packet->destination_port);
}

static __always_inline __u32 ct6_key_of(const struct packet *packet, struct ct6_key *key)
{
	key->protocol = packet->protocol;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
	if (is_source_lower(packet)) {
		key->address[0] = packet->source;
		key->address[1] = packet->destination;
		key->port[0] = packet->source_port;
		key->port[1] = packet->destination_port;
		return 0;
	}
	key->address[0] = packet->destination;
	key->address[1] = packet->source;
	key->port[0] = packet->destination_port;
	key->port[1] = packet->source_port;
	return 1;
}

/* Make the key of a packet's flow; returns the side that sent it. */
static __always_inline __u32 ct_key_of(const struct packet *packet, union ct_key *key)
{
	return packet->family == 6 ? ct6_key_of(packet, &key->ipv6)
				   : ct4_key_of(packet, &key->ipv4);
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
				       const struct ct_entry *entry)
{
	if (packet->family == 6)
		return bpf_map_update_elem(&cilia_ct6, &key->ipv6, entry, BPF_ANY);
	return bpf_map_update_elem(&cilia_ct4, &key->ipv4, entry, BPF_ANY);
}

static __always_inline void delete_flow(const struct packet *packet, const union ct_key *key)
{
	if (packet->family == 6)
		bpf_map_delete_elem(&cilia_ct6, &key->ipv6);
	else
		bpf_map_delete_elem(&cilia_ct4, &key->ipv4);
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

/* Tell whether nothing has changed since the flow was decided. A local side whose policy is
 * withdrawn is a change. */
static __always_inline bool is_current(const struct ct_entry *entry)
{
	__u32 changes = owner_changes(entry->bucket[0]) + owner_changes(entry->bucket[1]);
	struct policy_version low, high;

	return entry->generation == generation_of(entry->policy_slot, changes, &low, &high);
}

static __always_inline bool is_closed(const struct ct_entry *entry)
{
	__u8 one = entry->side[0].tcp_flags, other = entry->side[1].tcp_flags;

	return (one | other) & TCP_RST || one & other & TCP_FIN;
}

/* Tell whether a packet begins a new connection where a former one has been closed. */
static __always_inline bool is_reopening(const struct ct_entry *entry, const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && is_closed(entry);
}

#define TRACE_FLAGS (TCP_FIN | TCP_SYN | TCP_RST)

/* Account for a packet; tells whether it is time to trace the flow: its side shows one of
 * TRACE_FLAGS for the first time, or was last reported `trace_ticks` ago. Plain adds: two CPUs that
 * carry the same direction of a flow may lose a count, and a TCP flag of one packet; FIN and RST
 * that are lost so leave the flow to its longer timeout. */
static __always_inline bool ct_account(struct ct_entry *entry, struct ct_side *side, __u8 tcp_flags,
				       __u32 bytes)
{
	__u8 fresh = tcp_flags & ~side->tcp_flags;
	__u32 now = coarse_now();

	side->packets++;
	side->bytes += bytes;
	if (fresh)
		side->tcp_flags |= tcp_flags;
	if (entry->last_seen != now)
		entry->last_seen = now;
	if (!trace_ticks || (!(fresh & TRACE_FLAGS) && now - side->traced < trace_ticks))
		return false;
	side->traced = now;
	return true;
}
