/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Masquerading at the uplinks: pods' packets to the world have their node's address. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/conntrack.h"
#include "lib/drop_reasons.h"
#include "lib/icmp.h"
#include "lib/locate.h"
#include "lib/nat_idle.h"
#include "lib/nat_mapping.h"
#include "lib/nat_ports.h"
#include "lib/packet.h"
#include "lib/rewrite.h"
#include "maps/nat.h"

#define NAT_CHECK_SECONDS 1

/* Tell whether pods are known by their own addresses where a packet goes. */
static __always_inline bool is_non_masquerade(const struct packet *packet)
{
	struct ipcache_key key = {.prefixlen = 128, .address = packet->destination};
	const struct ipcache_entry *entry;

	if (bpf_map_lookup_elem(&cilia_non_masquerade, &key))
		return true;
	entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	if (!entry)
		return false;
	if (is_remote_node(entry->identity))
		return is_native;
	return is_allocated(entry->identity);
}

/* Tell whether a packet is a reply to somebody who knows the pod by its own address. */
static __noinline bool is_reply(const struct packet *packet)
{
	const struct ct_entry *entry;
	union ct_key key;
	__u32 from;

	from = ct_key_of(packet, &key);
	entry = lookup_flow(packet, &key);
	return entry && entry->initiator != from;
}

static __always_inline void node_address(const struct packet *packet, struct address *address)
{
	const volatile __be32 *word = (const volatile __be32 *)node_ipv6.byte;

	if (packet->family == 4) {
		map_ipv4(address, node_ipv4);
		return;
	}
	for (int i = 0; i < 4; i++)
		words_of(address)[i] = word[i];
}

/* Prepare the room for a mapping of what a packet's pod sends; false if no port is to be had. */
static __always_inline bool prepare_mapping(struct nat_scratch *room, const struct packet *packet,
					    __u32 endpoint)
{
	struct nat_ports ports = nat_ports();

	if (!ports.first)
		return false;
	room->first = ports.first;
	room->ports = ports.last - ports.first + 1;
	room->start = bpf_get_prandom_u32();
	nat_key_of(packet, &room->sent);
	room->reply = room->sent;
	room->reply.is_reply = 1;
	node_address(packet, &room->reply.local);
	__builtin_memset(&room->back, 0, sizeof(room->back));
	room->back.checked = coarse_now();
	room->back.endpoint = endpoint;
	room->back.port = packet->source_port;
	room->back.address = packet->source;
	return true;
}

/* Enter both halves of the mapping in the room; returns 0 or a verdict. Two CPUs may do so for one
 * flow at the same time; the first to enter what it sends has made the mapping. */
static __noinline int enter_mapping(struct __sk_buff *ctx, struct nat_scratch *room,
				    struct nat_usage *usage)
{
	__u32 number = usage ? __sync_fetch_and_add(&usage->head, 1) : 0;
	int verdict;

	room->back.number = number;
	verdict = search_port(ctx, room);
	if (verdict)
		return verdict;
	room->forth = room->back;
	room->forth.tag = nat_tag(&room->sent);
	room->forth.address = room->reply.local;
	room->forth.port = room->reply.local_port;
	if (bpf_map_update_elem(&cilia_nat, &room->sent, &room->forth, BPF_NOEXIST)) {
		bpf_map_delete_elem(&cilia_nat, &room->reply);
		return bpf_map_lookup_elem(&cilia_nat, &room->sent) ? 0 : -DROP_NAT_NO_ROOM;
	}
	if (!room->back.endpoint)
		return 0;
	room->turn.number = number;
	room->turn.endpoint = room->back.endpoint;
	bpf_map_update_elem(&cilia_nat_turns, &room->turn, &room->sent, BPF_ANY);
	return 0;
}

/* Make a mapping for what a packet's pod sends, charged to an endpoint; returns 0 or a verdict.
 * Global, so that the verifier looks at it once. */
__noinline int open_mapping(struct __sk_buff *ctx, const struct packet *packet, __u32 endpoint)
{
	struct nat_usage *usage = bpf_map_lookup_elem(&cilia_nat_usage, &endpoint);
	struct nat_scratch *room = nat_scratch();
	int verdict;

	if (!packet || !room)
		return -DROP_NAT_NO_ROOM;
	if (!has_quota(endpoint))
		return -DROP_NAT_QUOTA;
	if (!prepare_mapping(room, packet, endpoint))
		return -DROP_NAT_NO_PORT;
	verdict = enter_mapping(ctx, room, usage);
	if (verdict == -DROP_NAT_NO_ROOM && make_room(endpoint))
		verdict = enter_mapping(ctx, room, usage);
	return verdict;
}

static __always_inline int rewrite(struct __sk_buff *ctx, const struct packet *packet,
				   const struct rewrite *rewrite)
{
	return packet->is_error ? rewrite_error(ctx, packet, rewrite)
				: rewrite_packet(ctx, packet, rewrite);
}

/* Tell whether a mapping should be checked again. */
static __always_inline bool is_check_due(const struct nat_entry *entry)
{
	return coarse_now() - entry->checked >= ticks_per_second * NAT_CHECK_SECONDS;
}

/* Check the mapping of what comes back under a key for a socket of the node that was bound to its
 * port since, which nothing else says of UDP before it sends. If there is one, the mapping is
 * removed. */
static __noinline bool has_lost_port(struct __sk_buff *ctx, const struct nat_key *reply)
{
	struct nat_scratch *room = nat_scratch();

	if (!room || reply->protocol != IPPROTO_UDP || !has_socket(ctx, reply))
		return false;
	room->other = *reply;
	remove_mapping(room);
	return true;
}

/* Check a mapping of what a pod sends: what comes back by it must come to the pod. If it does not,
 * since two CPUs took one port at the same time or a socket has it, the mapping is removed. */
static __noinline bool is_mapping_lost(struct __sk_buff *ctx, const struct packet *packet,
				       const struct rewrite *source)
{
	struct nat_scratch *room = nat_scratch();
	const struct nat_entry *back;

	if (!room)
		return false;
	nat_key_of(packet, &room->sent);
	room->reply = room->sent;
	room->reply.local = source->to;
	room->reply.local_port = source->port_to;
	room->reply.is_reply = 1;
	back = bpf_map_lookup_elem(&cilia_nat, &room->reply);
	if (back && back->port == packet->source_port &&
	    is_same_address(&back->address, &packet->source))
		return has_lost_port(ctx, &room->reply);
	bpf_map_delete_elem(&cilia_nat, &room->sent);
	return true;
}

/* Find the mapping of what a pod sends, and how it is rewritten. */
static __noinline bool find_mapping(struct __sk_buff *ctx, const struct packet *packet,
				    struct rewrite *source)
{
	struct nat_entry *entry;
	struct nat_key key;

	nat_key_of(packet, &key);
	entry = bpf_map_lookup_elem(&cilia_nat, &key);
	if (!entry)
		return false;
	source->to = entry->address;
	source->port_to = entry->port;
	if (!is_entry_of(entry, &key))
		return false;
	source->from = packet->source;
	source->port_from = packet->source_port;
	source->is_source = true;
	source->is_ipv6 = packet->family == 6;
	source->protocol = packet->protocol;
	if (!is_check_due(entry))
		return true;
	entry->checked = coarse_now();
	return !is_mapping_lost(ctx, packet, source);
}

/* Masquerade what a local pod sends to the world, by a mapping that is to be made. Returns 0, also
 * if the packet is left as it is, or a verdict. */
static __noinline int masquerade(struct __sk_buff *ctx, const struct packet *packet,
				 struct rewrite *source, __u32 endpoint)
{
	int verdict;

	if (is_non_masquerade(packet) || is_reply(packet))
		return 0;
	if (packet->is_error)
		return -DROP_CT_INVALID;
	verdict = open_mapping(ctx, packet, endpoint);
	if (verdict)
		return verdict;
	if (!find_mapping(ctx, packet, source))
		return -DROP_NAT_NO_PORT;
	return rewrite(ctx, packet, source);
}

/* Tell whether what comes under the key of a mapping is for the node: it begins a connection to a
 * socket that listens, or its port has one now. */
static __always_inline bool is_for_node(struct __sk_buff *ctx, const struct packet *packet,
					const struct nat_key *key, struct nat_entry *entry)
{
	if (key->protocol == IPPROTO_TCP)
		return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && has_socket(ctx, key);
	if (!is_check_due(entry))
		return false;
	entry->checked = coarse_now();
	return has_lost_port(ctx, key);
}

/* Give what comes back the pod's address, in `packet` too. Returns 0, also if nothing is mapped
 * there, or a verdict. */
static __noinline int reverse_masquerade(struct __sk_buff *ctx, struct packet *packet)
{
	struct rewrite destination = {.is_ipv6 = packet->family == 6, .protocol = packet->protocol};
	struct nat_entry *entry;
	struct nat_key key;
	int verdict;

	reply_key_of(packet, &key);
	entry = bpf_map_lookup_elem(&cilia_nat, &key);
	if (!entry || entry->is_node || is_for_node(ctx, packet, &key, entry))
		return 0;
	destination.to = entry->address;
	destination.port_to = entry->port;
	if (!is_entry_of(entry, &key))
		return 0;
	destination.from = packet->destination;
	destination.port_from = packet->destination_port;
	verdict = rewrite(ctx, packet, &destination);
	packet->destination = destination.to;
	packet->destination_port = destination.port_to;
	return verdict;
}

/* Tell whether a packet that this node sends shows that it has a port: a reset says the opposite,
 * and an error is about another's packet. */
static __always_inline bool claims_port(const struct packet *packet, const struct nat_ports *ports)
{
	__u16 port = bpf_ntohs(packet->source_port);

	return port >= ports->lowest && port <= ports->highest && port && !packet->is_error &&
	       !(packet->tcp_flags & TCP_RST);
}

/* Leave to the node what it takes by sending from it: a mapping with that port to the same remote
 * end is removed, and its pod's next packet gets another. No socket shows who waits for an echo, so
 * its identifier is entered as the node's. */
static __noinline void yield_to_node(const struct packet *packet)
{
	struct nat_scratch *room = nat_scratch();
	struct nat_ports ports = nat_ports();
	struct nat_entry *entry;

	if (!room || !claims_port(packet, &ports))
		return;
	nat_key_of(packet, &room->reply);
	room->reply.is_reply = 1;
	entry = bpf_map_lookup_elem(&cilia_nat, &room->reply);
	if (entry && entry->is_node) {
		entry->checked = coarse_now();
		return;
	}
	if (entry) {
		room->other = room->reply;
		remove_mapping(room);
	}
	if (!is_icmp(packet))
		return;
	__builtin_memset(&room->back, 0, sizeof(room->back));
	room->back.tag = nat_tag(&room->reply);
	room->back.checked = coarse_now();
	room->back.port = packet->source_port;
	room->back.address = packet->source;
	room->back.is_node = true;
	bpf_map_update_elem(&cilia_nat, &room->reply, &room->back, BPF_ANY);
}
