/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ports of mappings: the search of one that neither a mapping nor a socket of the node has. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/drop_reasons.h"
#include "lib/locate.h"
#include "lib/nat_idle.h"
#include "lib/nat_mapping.h"
#include "lib/packet.h"
#include "maps/nat.h"

#define NAT_TRIES   32
#define NAT_SAMPLES 32 /* mappings of which the one that has idled longest is taken */
#define NO_SPACE    -7 /* E2BIG, of a map that is full */

/* Tell whether a socket of this node takes what comes back under a key: connected to the remote
 * end, or bound to the port. */
static __noinline bool has_socket(struct __sk_buff *ctx, const struct nat_key *reply)
{
	struct bpf_sock_tuple tuple = {};
	__u32 bytes = sizeof(tuple.ipv6);
	struct bpf_sock *socket;

	if (is_ipv4(&reply->remote)) {
		bytes = sizeof(tuple.ipv4);
		tuple.ipv4.saddr = ipv4_of(&reply->remote);
		tuple.ipv4.daddr = ipv4_of(&reply->local);
		tuple.ipv4.sport = reply->remote_port;
		tuple.ipv4.dport = reply->local_port;
	} else {
		for (int i = 0; i < 4; i++) {
			tuple.ipv6.saddr[i] = word_of(&reply->remote, i);
			tuple.ipv6.daddr[i] = word_of(&reply->local, i);
		}
		tuple.ipv6.sport = reply->remote_port;
		tuple.ipv6.dport = reply->local_port;
	}
	if (reply->protocol == IPPROTO_TCP)
		socket = bpf_skc_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else if (reply->protocol == IPPROTO_UDP)
		socket = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

static __always_inline __be16 port_at(const struct nat_scratch *room, __u32 number)
{
	return bpf_htons(room->first + (room->start + number) % room->ports);
}

/* Take the port in `reply` of the room if nobody has it. A socket that is bound while we look for
 * it is found when the mapping is checked the next time. */
static __always_inline bool take_port(struct __sk_buff *ctx, struct nat_scratch *room)
{
	long failed;

	if (room->reply.local_port == bpf_htons(tunnel_port) ||
	    bpf_map_lookup_elem(&cilia_nat, &room->reply) || has_socket(ctx, &room->reply))
		return false;
	room->back.tag = nat_tag(&room->reply);
	failed = bpf_map_update_elem(&cilia_nat, &room->reply, &room->back, BPF_NOEXIST);
	room->is_full = failed == NO_SPACE;
	return !failed;
}

/* Try the port with a number in the search of the room. Global, so that the verifier looks at it
 * once, not at each try. */
__noinline int try_port(struct __sk_buff *ctx, __u32 number)
{
	struct nat_scratch *room = nat_scratch();

	if (!room || !room->ports)
		return false;
	room->reply.local_port = port_at(room, number);
	return take_port(ctx, room);
}

/* Compare the mapping that has a random port with the one that has idled longest so far. One of the
 * same pod goes first. */
__noinline int compare_port(__u32 number)
{
	struct nat_scratch *room = nat_scratch();
	const struct nat_entry *back;
	__s32 spare;

	if (!room || !room->ports)
		return false;
	room->start = bpf_get_prandom_u32();
	room->other = room->reply;
	room->other.local_port = port_at(room, number);
	spare = spare_ticks(room);
	if (spare < 0)
		return false;
	back = bpf_map_lookup_elem(&cilia_nat, &room->other);
	if (back && back->endpoint == room->back.endpoint)
		spare |= 1 << 30;
	if (spare <= room->spare)
		return false;
	room->spare = spare;
	room->oldest = room->other;
	return true;
}

/* Take the port of the mapping to the same remote end that has idled longest, of a sample. If two
 * CPUs do so with one port at the same time, the answers go to the later of the two, and the
 * other's connection has to be tried again. */
__noinline int take_over(struct __sk_buff *ctx)
{
	struct nat_scratch *room = nat_scratch();

	if (!room)
		return false;
	room->spare = -1;
	for (int i = 0; i < NAT_SAMPLES; i++)
		compare_port(i);
	if (room->spare < 0)
		return false;
	room->other = room->oldest;
	room->reply.local_port = room->oldest.local_port;
	remove_mapping(room);
	return take_port(ctx, room);
}

/* Search a port, and enter what comes back under it; returns 0 or a verdict. */
static __noinline int search_port(struct __sk_buff *ctx, struct nat_scratch *room)
{
	room->is_full = false;
	for (int i = 0; i < NAT_TRIES; i++) {
		if (try_port(ctx, i))
			return 0;
		if (room->is_full)
			return -DROP_NAT_NO_ROOM;
	}
	if (take_over(ctx))
		return 0;
	return room->is_full ? -DROP_NAT_NO_ROOM : -DROP_NAT_NO_PORT;
}
