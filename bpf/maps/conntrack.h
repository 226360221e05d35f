/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Conntrack: what was decided about each flow, and where its packets go.
 *
 * One entry a flow, under a key that both directions share: the end that is lower in memory order
 * of {address, port} is end 0. A packet of an established flow costs one lookup here, the check
 * that `generation` still is the sum that it was, and a redirect. Counters are plain adds: two CPUs
 * that carry one direction of one flow at the same time may lose a count, never a verdict.
 *
 * Writers: the programs; the agent removes what has expired. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

struct ct4_key {
	__be32 address[2];
	__be16
	    port[2]; /* echo: the identifier (of 0, 65535) at the end that asked, 0 at the other */
	__u8 protocol;
	__u8 pad[3];
};

struct ct6_key {
	struct address address[2];
	__be16 port[2];
	__u8 protocol;
	__u8 pad[3];
};

/* Packets that one end sends. */
struct ct_side {
	__u64 packets;
	__u64 bytes;
	__u32 source_ifindex; /* device they must come from; 0: this host's stack or an uplink */
	__u32 ifindex;        /* device they leave by; 0: to this host's stack */
	__be32 tunnel;        /* node to which they are sent by VXLAN; 0: delivered here */
	__u32 traced;         /* time of their latest report, as last_seen counts */
	__u8 mac[6];          /* destination's, where it is a local pod */
	__u8 tcp_flags;       /* that were seen, ored */
	__u8 pad;
	__u32 acknowledged; /* TCP: latest number by which they acknowledged the other end's */
	__u32 fin;          /* TCP: sequence number of the latest with FIN */
};

/* State of a flow; bits. */
enum ct_state {
	CT_DENIED = 0x01,  /* decided to drop, for `reason`: it keeps its initiator */
	CT_MIDWAY = 0x02,  /* TCP that was first seen without SYN: either end may have begun */
	CT_RESET = 0x04,   /* by a RST that the other end accepts, and nothing came since */
	CT_ENDING = 0x08,  /* a FIN was seen that the other end hasn't proven yet */
	CT_ENDED_0 = 0x10, /* end 0 has sent its last, as the other end acknowledged */
	CT_ENDED_1 = 0x20,
	CT_ENDED = CT_ENDED_0 | CT_ENDED_1,
	CT_CARE = CT_DENIED | CT_RESET | CT_ENDING, /* its packets are looked at more closely */
};

struct ct_entry {
	__u32 generation;     /* see cilia_addresses; with the tag of its key, tag_of() */
	__u16 policy_slot[2]; /* slot of each end; 0 where it isn't local */
	__u32 bucket[2];      /* each end's address's in cilia_addresses */
	__u32 identity[2];    /* each end's */
	__u32 last_seen;      /* time of its latest packet; see lib/clock.h */
	__u32 stamp;          /* see cilia_change; XORed, as the generation, with the key's tag */
	__u32 cookie;         /* denied: of the policy that decided; 0: none */
	__u16 endpoint;       /* id of the endpoint that it is charged to, see maps/quota.h */
	__u8 initiator;       /* end that sent the first packet */
	__u8 state;           /* enum ct_state */
	__u8 reason;          /* denied: enum drop_reason */
	__u8 direction;       /* denied: enum policy_direction, the side that decided */
	__u8 is_outgoing;     /* charged as what that one began */
	__u8 pad;
	__u32 born;     /* number of the agent's sweep in which it was created */
	__u16 owner[2]; /* number of the pod of each end; 0: not known, or no pod */
	__u8 pad2[4];
	struct ct_side side[2];
};

_Static_assert(sizeof(struct ct4_key) == 16, "ct4_key");
_Static_assert(sizeof(struct ct6_key) == 40, "ct6_key");
_Static_assert(sizeof(struct ct_side) == 48, "ct_side");
_Static_assert(sizeof(struct ct_entry) == 152, "ct_entry");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct ct4_key);
	__type(value, struct ct_entry);
} cilia_ct4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct ct6_key);
	__type(value, struct ct_entry);
} cilia_ct6 SEC(".maps");
