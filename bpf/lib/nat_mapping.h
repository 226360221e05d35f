/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Mappings of masqueraded flows: keys, tags, the room in which they are made, and removal. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/packet.h"
#include "maps/nat.h"

/* Room to make a mapping in. Programs of one CPU don't interrupt each other. */
struct nat_scratch {
	struct nat_key sent;   /* key of what the pod sends */
	struct nat_key reply;  /* key of what comes back, with the port that is tried */
	struct nat_key oldest; /* key of what comes back by the mapping that has idled longest */
	struct nat_key other;  /* key of some other mapping */
	struct nat_entry back; /* value under `reply` */
	struct nat_entry forth;
	struct packet former; /* packet of another mapping's flow */
	struct nat_turn turn;
	__s32 spare; /* ticks by which `oldest` has idled longer than it may; -1: there is none */
	__u32 start; /* first try of the search, from `first` on */
	__u16 first;
	__u16 ports;
	__u8 is_full; /* the map has no room */
	__u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_scratch);
} cilia_nat_scratch SEC(".maps");

static __always_inline struct nat_scratch *nat_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilia_nat_scratch, &zero);
}

static __always_inline struct nat_ports nat_ports(void)
{
	union {
		__u64 word;
		struct nat_ports ports;
	} read = {};
	__u32 zero = 0;
	const void *found = bpf_map_lookup_elem(&cilia_nat_ports, &zero);

	if (found)
		read.word = *(const volatile __u64 *)found;
	return read.ports;
}

/* Make the key of what a pod sends; an echo's identifier stands where a port would. */
static __always_inline void nat_key_of(const struct packet *packet, struct nat_key *key)
{
	key->remote = packet->destination;
	key->local = packet->source;
	key->remote_port = packet->destination_port;
	key->local_port = packet->source_port;
	key->protocol = packet->protocol;
	key->is_reply = 0;
	key->pad[0] = key->pad[1] = 0;
}

/* Make the key of what comes back to the node. */
static __always_inline void reply_key_of(const struct packet *packet, struct nat_key *key)
{
	key->remote = packet->source;
	key->local = packet->destination;
	key->remote_port = packet->source_port;
	key->local_port = packet->destination_port;
	key->protocol = packet->protocol;
	key->is_reply = 1;
	key->pad[0] = key->pad[1] = 0;
}

/* Tag of a key. The kernel gives the element of a removed entry to the next without a grace period,
 * so what a lookup has found may become another's entry while it is read. */
static __always_inline __u32 nat_tag(const struct nat_key *key)
{
	__u32 tag = key->is_reply << 8 | key->protocol;

	tag = (tag ^ ((__u32)key->remote_port << 16 | key->local_port)) * 0x9e3779b1;
	tag = (tag ^ word_of(&key->remote, 3)) * 0x85ebca6b;
	tag = (tag ^ word_of(&key->local, 3)) * 0xc2b2ae35;
	return (tag ^ word_of(&key->remote, 1) ^ word_of(&key->remote, 2)) | 1;
}

/* Tell whether what was read of an entry before is its key's. */
static __always_inline bool is_entry_of(const struct nat_entry *entry, const struct nat_key *key)
{
	__u32 tag = *(const volatile __u32 *)&entry->tag;

	return !tag || tag == nat_tag(key);
}

/* Remove the mapping by which packets come back under the key that stands in `other` of the room.
 * Its halves are removed one by one: what comes between finds one of them, and is translated or
 * isn't. */
static __noinline void remove_mapping(struct nat_scratch *room)
{
	const struct nat_entry *back = bpf_map_lookup_elem(&cilia_nat, &room->other);

	if (!back)
		return;
	room->turn.number = back->number;
	room->turn.endpoint = back->endpoint;
	room->former.source = back->address;
	room->former.source_port = back->port;
	bpf_map_delete_elem(&cilia_nat, &room->other);
	if (room->turn.endpoint)
		bpf_map_delete_elem(&cilia_nat_turns, &room->turn);
	room->other.local = room->former.source;
	room->other.local_port = room->former.source_port;
	room->other.is_reply = 0;
	bpf_map_delete_elem(&cilia_nat, &room->other);
}
