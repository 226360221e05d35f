/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ports of fragmented packets: only the first fragment has them.
 *
 * Keyed by the device also, so that a pod can't speak for another one. Entries go when newer ones
 * need the room.
 *
 * Writers and readers: the programs. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

struct fragment_key {
	struct address source;
	struct address destination;
	__be32 id; /* IPv4: in the upper two bytes */
	__u32 ifindex;
	__u8 protocol;
	__u8 pad[3];
};

struct fragment_ports {
	__be16 source; /* as in struct packet */
	__be16 destination;
	__u16 bytes; /* first fragment's payload, over which no other may reach (RFC 5722) */
	__u8 pad[2];
};

_Static_assert(sizeof(struct fragment_key) == 44, "fragment_key");
_Static_assert(sizeof(struct fragment_ports) == 8, "fragment_ports");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} cilia_fragments SEC(".maps");
