/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Policy of the identities that live on this node.
 *
 * Slot: the index that the agent gives to an identity with local endpoints. The identity's entries
 * stand in cilia_policy under {slot, set}; its word in cilia_policy_slots says which of the two
 * sets is in force. A change of rules is written into the other set and becomes visible when the
 * word is stored: a packet sees the old policy or the new one. Slots that change together store
 * their word as `next`, in force from `epoch` on, and then one store to cilia_policy_epoch switches
 * all of them.
 *
 * Lookup: for each shape in use, longest first, probe the entry of the peer's identity and, unless
 * all entries are for named peers, the one of any peer; between the two longest matches the higher
 * precedence wins, then the longer, then the peer's own.
 *
 * Peers with the same entries share them: the one entry of such a peer (SHAPE_ANY, `is_member`)
 * names their set by a number that no identity has, and in the lookup the number takes the place of
 * the peer's identity. So 10,000 peers with 200 ports are 10,200 entries, and one store makes an
 * identity a peer.
 *
 * Writer: the agent, from the resolved policy. Readers: every program, for the first packet of a
 * flow and for the next packet of a flow after a change. Lifetime: pinned; outlives the agent.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum policy_limit {
	POLICY_SLOTS = 4096, /* identities that can live on one node at a time */
	POLICY_ENTRIES = 262144,
	ADDRESS_BUCKETS = 65536,
};

/* Precedence of an entry: level 0 in bits 31 to 8; between the values of the low byte there is room
 * for redirections (the peer's pkg/policy/types/entry.go). */
enum policy_precedence {
	PRECEDENCE_AUDITED_DEFAULT = 0xffffff00, /* default deny of a policy under audit */
	PRECEDENCE_ALLOW = 0xffffff01,
	PRECEDENCE_AUDITED_DENY = 0xfffffffe,
	PRECEDENCE_DENY = 0xffffffff, /* nothing overrules it: the search may end */
};

/* Shape: how much of {protocol, port} an entry gives. 0: any protocol; 1 + n: a protocol and n
 * leading bits of the port. */
enum policy_shape {
	SHAPE_ANY = 0,
	SHAPE_PROTOCOL = 1,
	SHAPE_PORT = 17,
	SHAPES = 18,
};

enum policy_direction {
	POLICY_INGRESS = 0,
	POLICY_EGRESS = 1,
};

/* One version of a slot's policy; a single 64-bit word, so that it changes at once. */
struct policy_version {
	__u32 revision; /* grows with each change that can alter a verdict; 0: not realised, deny */
	__u32 set : 1;  /* the entries that are in force */
	__u32 audit : 1;      /* would-be drops are reported and let through */
	__u32 named_only : 2; /* bit d: no entry of enum policy_direction d is for any peer (none
				 may be set) */
	__u32 unused : 10;
	__u32 shapes : 18; /* bit s: entries of shape s exist (a superset is allowed) */
};

struct policy_slot {
	struct policy_version current;
	struct policy_version
	    next;    /* in force instead once cilia_policy_epoch has reached `epoch` */
	__u32 epoch; /* 0: there is no next */
	__u32 identity;
};

_Static_assert(sizeof(struct policy_version) == 8, "policy_version");
_Static_assert(sizeof(struct policy_slot) == 24, "policy_slot");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POLICY_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct policy_slot);
} cilia_policy_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} cilia_policy_epoch SEC(".maps");

/* Parts of cilia_change: how many changes are under way, and one more that is done. */
enum change_part {
	CHANGE_UNDER_WAY = 0x0f,
	CHANGE_DONE = 0x10,
};

/* Word of all changes that may alter a verdict: of slots, epoch, counts of owners, and entries of
 * cilia_policy that are added in place. Whoever makes one adds 1 before its first store, and after
 * its last CHANGE_DONE - 1. What was found to hold at a word (read before everything else) while no
 * change was under way is stamped with it, and holds as long as the word is the same; while a
 * change is under way no stamp holds, so that each of its stores takes effect at once. It comes
 * back to a value after 2^28 changes; nothing idles for so long.
 *
 * Writer: the agent, which ends at its start what a former one left under way. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} cilia_change SEC(".maps");

/* Counts of how often the owner of an address changed, by bucket: an IPv4 address belongs to the
 * one that its last two bytes name, in network order. A flow remembers the sum of the revisions of
 * its two slots and the counts of its two addresses: all only grow, so an equal sum means that
 * nothing changed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ADDRESS_BUCKETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} cilia_addresses SEC(".maps");

struct policy_key {
	__u16 slot; /* index into cilia_policy_slots */
	__u8 set;
	__u8 direction; /* enum policy_direction, seen from the slot's endpoints */
	__u32 identity; /* the peer's; 0: any */
	__be16 port;    /* destination port or ICMP type, masked to the shape's bits */
	__u8 protocol;  /* 0 in SHAPE_ANY */
	__u8 shape;
};

struct policy_entry {
	__u32 precedence; /* the higher wins */
	__u32 cookie;     /* names the policy behind it, for events; of a member, the set */
	__u8 deny;
	__u8 audit;
	__u8 is_member; /* gives no verdict: look for the set's entries instead of the peer's */
	__u8 pad;
};

_Static_assert(sizeof(struct policy_key) == 12, "policy_key");
_Static_assert(sizeof(struct policy_entry) == 12, "policy_entry");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, POLICY_ENTRIES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, struct policy_entry);
} cilia_policy SEC(".maps");
