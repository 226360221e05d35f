/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Idle mappings: for how long a flow may idle before another takes its port, where none is free,
 * and the turns in which an endpoint's own are taken back.
 */
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
#include "lib/locate.h"
#include "lib/nat_mapping.h"
#include "lib/packet.h"
#include "maps/nat.h"

#define DNS_PORT               53
#define ANSWERED_QUERY_SECONDS 1 /* every query has its answer */
#define UNANSWERED_SECONDS     5 /* for as long resolvers wait */
#define NODE_ECHO_SECONDS      10
#define OPENING_SECONDS        10 /* TCP's handshake */
#define DATAGRAM_SECONDS       30
#define LONGEST_SECONDS        (1 << 20) /* a flow's that never idles too long */
#define TURNS_AT_ONCE          16

/* Seconds for which a flow may idle before its port is taken, if one is needed. An established
 * connection keeps it. */
static __always_inline __u32 idle_seconds(const struct ct_entry *flow, const struct nat_key *reply)
{
	const struct ct_side *asked = flow->initiator ? &flow->side[1] : &flow->side[0];
	const struct ct_side *answered = flow->initiator ? &flow->side[0] : &flow->side[1];

	if (reply->protocol == IPPROTO_TCP) {
		if (is_closed(flow))
			return 0;
		return asked->tcp_flags & answered->tcp_flags & TCP_ACK ? LONGEST_SECONDS
									: OPENING_SECONDS;
	}
	if (!answered->packets)
		return UNANSWERED_SECONDS;
	if (reply->protocol != IPPROTO_UDP)
		return UNANSWERED_SECONDS;
	if (reply->remote_port == bpf_htons(DNS_PORT))
		return answered->packets >= asked->packets ? ANSWERED_QUERY_SECONDS
							   : UNANSWERED_SECONDS;
	return DATAGRAM_SECONDS;
}

static __always_inline __s32 idle_ticks(__u32 last_seen)
{
	__s32 idle = coarse_now() - last_seen;

	return idle < 0 ? 0 : idle;
}

/* Ticks by which the mapping whose reply key stands in `other` of the room has idled longer than it
 * may, or -1. One whose flow is gone has idled longest. */
static __noinline __s32 spare_ticks(struct nat_scratch *room)
{
	const struct nat_entry *back = bpf_map_lookup_elem(&cilia_nat, &room->other);
	struct packet *former = &room->former;
	const struct ct_entry *flow;
	union ct_key key;
	__s32 spare;

	if (!back)
		return -1;
	if (back->is_node) {
		spare = idle_ticks(back->checked) - NODE_ECHO_SECONDS * ticks_per_second;
		return spare < 0 ? -1 : spare;
	}
	former->family = is_ipv4(&room->other.remote) ? 4 : 6;
	former->protocol = room->other.protocol;
	former->source = back->address;
	former->source_port = back->port;
	former->destination = room->other.remote;
	former->destination_port = room->other.remote_port;
	former->icmp_type = echo_type(former);
	ct_key_of(former, &key);
	flow = lookup_flow(former, &key);
	if (!flow)
		return LONGEST_SECONDS;
	spare = idle_ticks(flow->last_seen) -
		(__s32)(idle_seconds(flow, &room->other) * ticks_per_second);
	return spare < 0 ? -1 : spare;
}

/* Mappings that count against an endpoint's quota. Below zero where CPUs that took turns at the
 * same time went past the last one. */
static __always_inline __s32 mappings_of(const struct nat_usage *usage)
{
	return usage->head - usage->tail;
}

/* Outcomes of a turn. */
enum {
	TURN_NONE,  /* the endpoint has no mapping */
	TURN_EMPTY, /* the mapping was gone already */
	TURN_FREED, /* it is removed */
	TURN_KEPT,  /* it is in use, and the last one now */
};

/* Take back the oldest mapping of the endpoint to which the room's is charged, if it is idle. Two
 * CPUs never have the same turn. A function of its own to the verifier. */
__noinline int take_turn(__u32 endpoint)
{
	struct nat_usage *usage = bpf_map_lookup_elem(&cilia_nat_usage, &endpoint);
	struct nat_scratch *room = nat_scratch();
	struct nat_entry *forth, *back;
	const struct nat_key *sent;

	if (!usage || !room || mappings_of(usage) <= 0)
		return TURN_NONE;
	room->turn.endpoint = endpoint;
	room->turn.number = __sync_fetch_and_add(&usage->tail, 1);
	sent = bpf_map_lookup_elem(&cilia_nat_turns, &room->turn);
	if (!sent)
		return TURN_EMPTY;
	room->other = *sent;
	bpf_map_delete_elem(&cilia_nat_turns, &room->turn);
	forth = bpf_map_lookup_elem(&cilia_nat, &room->other);
	if (!forth || forth->number != room->turn.number || forth->endpoint != endpoint)
		return TURN_EMPTY;
	room->oldest = room->other;
	room->other.local = forth->address;
	room->other.local_port = forth->port;
	room->other.is_reply = 1;
	back = bpf_map_lookup_elem(&cilia_nat, &room->other);
	if (!back || back->number != room->turn.number || back->endpoint != endpoint) {
		bpf_map_delete_elem(&cilia_nat, &room->oldest); /* its port is another's */
		return TURN_FREED;
	}
	if (spare_ticks(room) >= 0) {
		remove_mapping(room);
		return TURN_FREED;
	}
	room->turn.number = __sync_fetch_and_add(&usage->head, 1);
	forth->number = room->turn.number;
	back->number = room->turn.number;
	bpf_map_update_elem(&cilia_nat_turns, &room->turn, &room->oldest, BPF_ANY);
	return TURN_KEPT;
}

/* Tell whether an endpoint may have another mapping. Turns begin an eighth before its quota, and so
 * many at once that each of its mappings has had one before it is refused: however many in use
 * stand in front of the idle ones, none is refused that an idle one could make room for. */
static __noinline bool has_quota(__u32 endpoint)
{
	const struct nat_usage *usage = bpf_map_lookup_elem(&cilia_nat_usage, &endpoint);
	__s32 quota = nat_quota, enough = nat_quota - nat_quota / 8;

	if (!usage || !quota)
		return true;
	for (int i = 0; i < TURNS_AT_ONCE && mappings_of(usage) >= enough; i++)
		if (take_turn(endpoint) == TURN_NONE)
			break;
	return mappings_of(usage) < quota;
}

/* Take back one mapping of an endpoint, since the map is full; tells whether it did. */
static __noinline bool make_room(__u32 endpoint)
{
	for (int i = 0; i < TURNS_AT_ONCE; i++) {
		int turn = take_turn(endpoint);

		if (turn == TURN_FREED)
			return true;
		if (turn == TURN_NONE)
			break;
	}
	return false;
}
