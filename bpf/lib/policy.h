/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Policy lookup: the verdict of one slot's policy on one peer, protocol and port. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/drop_reasons.h"
#include "maps/policy.h"

struct policy_query {
	struct policy_version version;
	__u32 identity; /* the peer's */
	__u16 slot;
	__be16 port;
	__u8 protocol;
	__u8 direction; /* enum policy_direction */
	__u8 is_audited;
	__u8 pad;
};

struct policy_answer {
	__s32 verdict; /* 0 or the negative of a drop reason */
	__u32 cookie;
	__u8 audited;
	__u8 pad[3];
};

static __always_inline __u32 policy_epoch(void)
{
	__u32 zero = 0, *epoch = bpf_map_lookup_elem(&cilia_policy_epoch, &zero);

	return epoch ? *(volatile __u32 *)epoch : 0;
}

/* Read the version in force at `epoch`; false if there is none, which denies.
 *
 * The agent ends a switch by storing `next` as `current` and only then 0 as `epoch`; so `epoch` is
 * read first: who still sees it takes `next`, who doesn't sees the same word in `current`. */
static __always_inline bool version_at(__u32 index, __u32 epoch, struct policy_version *version)
{
	const struct policy_slot *slot = bpf_map_lookup_elem(&cilia_policy_slots, &index);
	__u32 due;

	if (!slot || !index)
		return false;
	due = *(const volatile __u32 *)&slot->epoch;
	*(__u64 *)version =
	    *(const volatile __u64 *)(due && epoch >= due ? &slot->next : &slot->current);
	return version->revision;
}

static __always_inline const struct policy_entry *find_entry(struct policy_key *key, __u32 identity)
{
	key->identity = identity;
	return bpf_map_lookup_elem(&cilia_policy, key);
}

/* Longest match of the peer's identity, and of any peer, so far. */
struct policy_matches {
	const struct policy_entry *exact;
	const struct policy_entry *any;
	bool is_any_longer;
};

/* Probe one shape for what isn't found yet; tells whether both are. */
static __always_inline bool probe(struct policy_matches *found, struct policy_key *key,
				  __u32 identity, __u8 shape)
{
	key->shape = shape;
	if (!found->exact)
		found->exact = find_entry(key, identity);
	if (!found->any) {
		found->any = find_entry(key, 0);
		found->is_any_longer = found->any && !found->exact;
	}
	return found->exact && found->any;
}

/* Probe the shape that nearly all entries have, where none is for any peer. To do so for the others
 * as well would save little, and the verifier a third more states to look at. */
static __always_inline bool probe_named(struct policy_matches *found, struct policy_key *key,
					__u32 identity)
{
	key->shape = SHAPE_PORT;
	found->exact = find_entry(key, identity);
	return found->exact;
}

/* Identity whose entries are probed: the peer's, or the number of the set of peers whose entries it
 * shares. */
static __always_inline __u32 identity_of_entries(const struct policy_query *query)
{
	struct policy_key key = {
	    .slot = query->slot,
	    .set = query->version.set,
	    .direction = query->direction,
	    .shape = SHAPE_ANY,
	};
	const struct policy_entry *own = NULL;

	if (query->version.shapes & 1 << SHAPE_ANY)
		own = find_entry(&key, query->identity);
	return own && own->is_member ? own->cookie : query->identity;
}

static __always_inline void find_matches(const struct policy_query *query,
					 struct policy_matches *found)
{
	__u32 identity = identity_of_entries(query);
	struct policy_key key = {
	    .slot = query->slot,
	    .set = query->version.set,
	    .direction = query->direction,
	    .port = query->port,
	    .protocol = query->protocol,
	};
	bool is_named_only = query->version.named_only >> query->direction & 1;
	__u32 shapes = query->version.shapes;
	__u32 shape;

	if (shapes & 1 << SHAPE_PORT)
		if (is_named_only ? probe_named(found, &key, identity)
				  : probe(found, &key, identity, SHAPE_PORT))
			return;
	if (shapes >> 2 & (1 << (SHAPE_PORT - 2)) - 1) {
		for (shape = SHAPE_PORT - 1; shape > SHAPE_PROTOCOL; shape--) {
			if (!(shapes & 1 << shape))
				continue;
			key.port = query->port & bpf_htons(0xffff << (SHAPE_PORT - shape));
			if (probe(found, &key, identity, shape))
				return;
		}
	}
	key.port = 0;
	if (shapes & 1 << SHAPE_PROTOCOL && probe(found, &key, identity, SHAPE_PROTOCOL))
		return;
	key.protocol = 0;
	if (shapes & 1 << SHAPE_ANY)
		probe(found, &key, identity, SHAPE_ANY);
}

/* Between the two longest matches: the higher precedence, then the longer, then the peer's own. */
static __always_inline const struct policy_entry *choose(const struct policy_matches *found)
{
	if (!found->exact)
		return found->any;
	if (!found->any || found->exact->precedence == PRECEDENCE_DENY)
		return found->exact;
	if (found->any->precedence > found->exact->precedence)
		return found->any;
	if (found->any->precedence == found->exact->precedence && found->is_any_longer)
		return found->any;
	return found->exact;
}

/* Consult a policy; returns the verdict, 0 to allow. Global, so that the verifier looks at it once,
 * not on each way that leads here. */
__noinline int consult_policy(const struct policy_query *query, struct policy_answer *answer)
{
	struct policy_matches found = {};
	const struct policy_entry *entry;
	bool is_audited;

	if (!query || !answer)
		return -DROP_POLICY_NOT_READY;
	is_audited = query->is_audited || query->version.audit;
	find_matches(query, &found);
	entry = choose(&found);
	answer->verdict = -DROP_POLICY_DENIED;
	if (entry) {
		answer->cookie = entry->cookie;
		answer->verdict = entry->deny ? -DROP_DENIED_BY_RULE : 0;
		is_audited |= entry->audit;
	}
	answer->audited = answer->verdict && is_audited;
	if (answer->audited)
		answer->verdict = 0;
	return answer->verdict;
}
