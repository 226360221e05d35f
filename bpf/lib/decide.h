/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Slow path: the first packet of a flow, and the next one after something has changed.
 *
 * Both local ends' policies are consulted at once, and both directions are written into the flow,
 * so that replies need no policy. A flow that is decided anew is decided in the direction of its
 * initiator, whichever end sent the packet. One that is denied then stays known, and with it its
 * initiator: else the next segment of its responder would begin it the other way round, which
 * policy may allow, and what is denied would pass as the answer.
 *
 * TCP that isn't known and doesn't begin by SYN may have been begun by either end. It passes if
 * both might have, and whoever it was, no rule is broken.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/count.h"
#include "lib/cursor.h"
#include "lib/decision.h"
#include "lib/denial.h"
#include "lib/drop.h"
#include "lib/ending.h"
#include "lib/event.h"
#include "lib/forward.h"
#include "lib/locate.h"
#include "lib/policy.h"
#include "lib/quota.h"

static __always_inline bool has_source_mac(struct __sk_buff *ctx, const __u8 *mac)
{
	const struct ethhdr *ethernet = frame_bytes(ctx, sizeof(*ethernet));

	if (!ethernet)
		return false;
	for (int i = 0; i < ETH_ALEN; i++)
		if (ethernet->h_source[i] != mac[i])
			return false;
	return true;
}

/* Locate the pod that sends: from its own addresses, and never to the tunnel's port, where nodes
 * would take it for one of them. */
static __always_inline int locate_sender(struct __sk_buff *ctx, const struct packet *packet,
					 struct location *source)
{
	if (!locate_local(&packet->source, source) || source->ifindex != ctx->ifindex)
		return -DROP_INVALID_SOURCE;
	if (!has_source_mac(ctx, source->mac))
		return -DROP_INVALID_MAC;
	if (is_to_tunnel(packet))
		return -DROP_ENCAP_PROHIBITED;
	return 0;
}

/* Locate a packet's source. Pods come to this host's stack and its uplinks neither by their own
 * link (they are redirected past it) nor, with an overlay, from another node; who has the address
 * of one there is not it. Returns 0 or a verdict. */
static __always_inline int locate_source(struct __sk_buff *ctx, const struct packet *packet,
					 struct location *source)
{
	if (packet->hook == HOOK_FROM_OVERLAY)
		return locate_remote(packet, source);
	if (packet->hook == HOOK_FROM_POD)
		return locate_sender(ctx, packet, source);
	locate(&packet->source, source);
	if (!source->identity)
		return -DROP_MARTIAN;
	return source->ifindex || source->tunnel ? -DROP_INVALID_SOURCE : 0;
}

static __always_inline int locate_destination(struct __sk_buff *ctx, const struct packet *packet,
					      struct location *destination)
{
	bool is_here;

	locate(&packet->destination, destination);
	if (packet->hook == HOOK_TO_POD)
		return destination->ifindex == ctx->ifindex ? 0 : -DROP_NO_ENDPOINT;
	if (!destination->identity)
		return -DROP_MARTIAN;
	is_here = destination->ifindex || destination->identity == IDENTITY_HOST;
	if (packet->hook == HOOK_FROM_OVERLAY)
		return is_here ? 0 : -DROP_NO_ENDPOINT;
	return is_nowhere(destination) ? -DROP_NO_ENDPOINT : 0;
}

/* Locate both ends of a packet; returns 0 or a verdict. */
static __always_inline int locate_ends(struct __sk_buff *ctx, const struct packet *packet,
				       struct decision *decision)
{
	int verdict;

	decision->source.bucket = bucket_of(&packet->source);
	decision->destination.bucket = bucket_of(&packet->destination);
	decision->changes =
	    owner_changes(decision->source.bucket) + owner_changes(decision->destination.bucket);
	verdict = locate_source(ctx, packet, &decision->source);
	return verdict ? verdict : locate_destination(ctx, packet, &decision->destination);
}

/* Consult the policy of one local end about the other. */
static __always_inline int consult_end(struct decision *decision, const struct location *local,
				       const struct location *peer)
{
	struct policy_query *query = &decision->query;
	struct policy_answer *answer = &decision->answer;

	__builtin_memset(answer, 0, sizeof(*answer));
	query->slot = local->policy_slot;
	query->identity = peer->identity;
	query->is_audited = local->flags & ENDPOINT_AUDIT;
	decision->findings.direction = query->direction;
	consult_policy(query, answer);
	decision->findings.cookie = answer->cookie;
	decision->findings.audited |= answer->audited;
	return answer->verdict;
}

/* Consult the policies of both ends; returns 0 or a verdict. Of the generation each part is read
 * before what it stands for, the changes of addresses before the ends are located: what changes in
 * between makes the flow stale at its next packet. */
static __always_inline int consult_ends(struct decision *decision, const struct packet *packet,
					const struct location *initiator,
					const struct location *responder, __be16 port)
{
	struct policy_query *query = &decision->query;
	__u16 slot[2] = {initiator->policy_slot, responder->policy_slot};
	struct policy_version egress = {}, ingress = {};
	int verdict;

	query->protocol = packet->protocol;
	query->port = port;
	decision->generation = generation_of(slot, decision->changes, &egress, &ingress);
	decision->findings.direction = POLICY_EGRESS;
	if (initiator->ifindex && !egress.revision)
		return -DROP_POLICY_NOT_READY;
	decision->findings.direction = POLICY_INGRESS;
	if (responder->ifindex && !ingress.revision)
		return -DROP_POLICY_NOT_READY;
	if (initiator->ifindex) {
		query->version = egress;
		query->direction = POLICY_EGRESS;
		verdict = consult_end(decision, initiator, responder);
		if (verdict)
			return verdict;
	}
	if (!responder->ifindex)
		return 0;
	query->version = ingress;
	query->direction = POLICY_INGRESS;
	return consult_end(decision, responder, initiator);
}

static __always_inline void fill_side(struct ct_side *side, const struct location *from,
				      const struct location *to)
{
	side->source_ifindex = from->tunnel ? overlay_ifindex : from->ifindex;
	side->ifindex = to->ifindex;
	side->tunnel = to->tunnel;
	__builtin_memcpy(side->mac, to->mac, sizeof(side->mac));
}

/* Write both ends into a flow. A function of its own, since the compiler must not know where on the
 * stack they lie: it would choose between the two by arithmetic on pointers that the verifier
 * refuses. */
static __noinline void fill_entry(struct ct_entry *entry, const struct location *low,
				  const struct location *high)
{
	entry->policy_slot[0] = low->policy_slot;
	entry->policy_slot[1] = high->policy_slot;
	entry->identity[0] = low->identity;
	entry->identity[1] = high->identity;
	entry->owner[0] = low->owner;
	entry->owner[1] = high->owner;
	entry->bucket[0] = low->bucket;
	entry->bucket[1] = high->bucket;
	fill_side(&entry->side[0], low, high);
	fill_side(&entry->side[1], high, low);
}

/* Fill in what the ipcache leaves open of the remote end of a flow whose packets came by the
 * tunnel, if its node is still the one that it was: answers go back by that, and a pod that isn't
 * known by its own address is who it was. */
static __always_inline void recall_remote(struct location *end, const struct address *address,
					  const struct ct_entry *former, __u32 side)
{
	const struct ct_side *towards = side ? &former->side[0] : &former->side[1];
	struct resident known = {};

	if (end->ifindex || end->tunnel || !towards->tunnel ||
	    node_behind(address, &known) != towards->tunnel)
		return;
	if (!is_remote_node(known.identity))
		end->identity = identity_of(former, side);
	end->tunnel = towards->tunnel;
}

/* Leave a known flow charged as it was when it was created. */
static __always_inline void keep_charge(struct ct_entry *entry, const struct ct_entry *known)
{
	entry->endpoint = known->endpoint;
	entry->is_outgoing = known->is_outgoing;
	entry->born = known->born;
}

/* Make the entry of a flow that was decided; `former` is what was known of it, or NULL. */
static __always_inline void fill_flow(const struct packet *packet, const union ct_key *key,
				      __u32 from, const struct ct_entry *former,
				      const struct decision *decision, struct ct_entry *entry)
{
	__u32 tag = tag_of(packet->family, key);

	__builtin_memset(entry, 0, sizeof(*entry));
	if (former) {
		entry->side[0] = former->side[0];
		entry->side[1] = former->side[1];
	}
	entry->generation = decision->generation ^ tag;
	entry->stamp = stamp_of(decision->word, tag);
	entry->initiator = decision->initiator;
	entry->state = decision->state;
	if (from)
		fill_entry(entry, &decision->destination, &decision->source);
	else
		fill_entry(entry, &decision->source, &decision->destination);
}

/* Enter a flow that wasn't known, unless another CPU has done so meanwhile. Returns 0 or a verdict.
 */
static __always_inline int enter_flow(const struct packet *packet, const union ct_key *key,
				      const struct decision *decision, struct ct_entry *entry)
{
	int verdict = charge_flow(packet, decision, entry), error;

	if (verdict)
		return verdict;
	error = update_flow(packet, key, entry, BPF_NOEXIST);
	if (!error)
		return 0;
	discharge_flow(packet, entry);
	return error == -EEXIST ? 0 : -DROP_CT_CREATE;
}

/* Let a flow pass from now on. Returns 0 or a verdict. */
static __always_inline int admit_flow(struct __sk_buff *ctx, const struct packet *packet,
				      const union ct_key *key, __u32 from,
				      const struct decision *decision, struct ct_entry *entry)
{
	struct ct_side *side = side_of(entry, from);

	if (needs_care(entry, packet))
		follow_ending(ctx, packet, entry, from);
	ct_account(entry, side, packet->tcp_flags, packet->acknowledged, ctx->len);
	side->traced = entry->last_seen; /* its verdict is reported */
	if (!packet->is_known)
		return enter_flow(packet, key, decision, entry);
	return update_flow(packet, key, entry, BPF_ANY) ? -DROP_CT_CREATE : 0;
}

/* Deny a known flow from now on. If that finds no room, the former entry stays, which isn't current
 * any more. Returns the verdict. */
static __always_inline int deny_flow(const struct packet *packet, const union ct_key *key,
				     const struct decision *decision, struct ct_entry *entry,
				     int verdict)
{
	entry->state |= CT_DENIED;
	entry->reason = -verdict;
	entry->direction = decision->findings.direction;
	entry->cookie = decision->findings.cookie;
	entry->last_seen = coarse_now();
	update_flow(packet, key, entry, BPF_ANY);
	return verdict;
}

/* Consult the policies of both ends about a flow that the sender of the packet began, or (a reply)
 * the receiver; returns 0 or a verdict. */
static __noinline int consult(struct decision *decision, const struct packet *packet, bool is_reply)
{
	const struct location *source = &decision->source, *destination = &decision->destination;
	__be16 port = is_reply ? packet->source_port : packet->destination_port;

	if (is_icmp(packet))
		port = bpf_htons(echo_type(packet));
	if (is_reply)
		return consult_ends(decision, packet, destination, source, port);
	return consult_ends(decision, packet, source, destination, port);
}

/* Consult them about either way, if nobody knows who began; returns 0 or a verdict. */
static __always_inline int consult_both(struct decision *decision, const struct packet *packet,
					bool is_reply)
{
	int verdict = consult(decision, packet, is_reply);

	if (verdict || !(decision->state & CT_MIDWAY))
		return verdict;
	verdict = consult(decision, packet, !is_reply);
	return verdict == -DROP_POLICY_NOT_READY || !verdict ? verdict : -DROP_CT_MIDWAY;
}

/* Tell whether the address of either end has another owner than the flow had: its packets are none
 * of that flow's, whatever their ports. Who isn't known by its address is believed to be who it
 * was.
 */
static __always_inline bool has_changed_hands(const struct ct_entry *flow, __u32 from,
					      const struct decision *decision)
{
	__u16 source = from ? flow->owner[1] : flow->owner[0];
	__u16 destination = from ? flow->owner[0] : flow->owner[1];

	if (source && decision->source.owner && source != decision->source.owner)
		return true;
	return destination && decision->destination.owner &&
	       destination != decision->destination.owner;
}

/* Flow that a packet goes on with, whose entry is `known`; NULL: none, since it begins anew. */
static __always_inline const struct ct_entry *former_flow(const struct ct_entry *known,
							  const struct packet *packet, __u32 from,
							  const struct decision *decision)
{
	if (!known || is_reopening(known, packet, from) || has_changed_hands(known, from, decision))
		return NULL;
	return known;
}

/* Decide about a flow whose ends are located, and write what becomes of it, made in `entry`, if it
 * is known or passes; returns 0 or a verdict. */
static __always_inline int decide_flow(struct __sk_buff *ctx, const struct packet *packet,
				       const union ct_key *key, __u32 from,
				       struct decision *decision, struct ct_entry *entry)
{
	const struct ct_entry *known = packet->is_known ? lookup_flow(packet, key) : NULL;
	const struct ct_entry *former = former_flow(known, packet, from, decision);
	bool is_reply = former && former->initiator != from;
	int verdict;

	if (former) {
		recall_remote(&decision->destination, &packet->destination, former, !from);
		decision->state = former->state & ~CT_DENIED;
	} else if (is_echo_reply(packet)) {
		return -DROP_CT_INVALID;
	} else if (packet->protocol == IPPROTO_TCP && !is_syn(packet)) {
		decision->state = CT_MIDWAY;
	}
	decision->initiator = is_reply ? !from : from;
	decision->findings.is_reply = is_reply;
	verdict = consult_both(decision, packet, is_reply);
	if (verdict && !former)
		return verdict;
	fill_flow(packet, key, from, former, decision, entry);
	if (known)
		keep_charge(entry, known);
	if (former && lookup_flow(packet, key) != former)
		return -DROP_CT_REUSED;
	if (verdict)
		return deny_flow(packet, key, decision, entry, verdict);
	return admit_flow(ctx, packet, key, from, decision, entry);
}

/* Report a decision, and take the packet to its exit; returns a TC action. A function of its own,
 * so that the verifier of 6.1 looks at it once. */
static __noinline int conclude(struct __sk_buff *ctx, const struct packet *packet,
			       struct decision *decision, int verdict)
{
	struct findings *findings = &decision->findings;

	findings->identity[0] = decision->source.identity;
	findings->identity[1] = decision->destination.identity;
	findings->link = decision->destination.ifindex;
	findings->endpoint[0] = decision->source.endpoint;
	findings->endpoint[1] = decision->destination.endpoint;
	if (verdict == -DROP_POLICY_DENIED || verdict == -DROP_DENIED_BY_RULE)
		if (!packet->is_known)
			remember_denial(ctx, packet, findings, decision->word, -verdict);
	if (verdict < 0)
		return drop_of_flow(ctx, packet, findings, verdict);
	report(ctx, packet, findings, EVENT_VERDICT, 0);
	if (findings->audited)
		count(AUDITED, packet->hook, ctx->len);
	return forwarded(ctx, packet, verdict);
}

/* Decide about a packet whose flow isn't known, isn't current, or came from where it shouldn't;
 * returns a TC action.
 *
 * Two CPUs may decide about one flow at the same time: of a new one the earlier entry stays, of a
 * known one the later, and the other packet isn't counted. An answer can't stand as the initiator
 * by that: a known flow keeps its own, nothing answers a SYN or an echo that wasn't let pass
 * before, and of UDP whose two ends begin at the same time each is one.
 *
 * Global, so that the verifier looks at it once, not on each way that leads here. What such a
 * function is given can't be the key of a map before Linux 6.2, so keys are copied. */
__noinline int decide(struct __sk_buff *ctx, const struct packet *packet, const union ct_key *flow,
		      __u32 from)
{
	struct scratch *room = scratch();
	struct decision *decision;
	union ct_key *key;
	int verdict;

	if (!packet || !flow || !room)
		return TC_ACT_SHOT;
	key = (union ct_key *)&room->key;
	*key = *flow;
	decision = &room->decision;
	__builtin_memset(decision, 0, sizeof(*decision));
	decision->word = change_word();
	verdict = locate_ends(ctx, packet, decision);
	if (verdict)
		return conclude(ctx, packet, decision, verdict);
	/* from another node to this host: no pod's policy is concerned */
	if (!decision->source.ifindex && !decision->destination.ifindex)
		return forwarded(ctx, packet, deliver_to_host(ctx));
	verdict = decide_flow(ctx, packet, key, from, decision, &room->entry);
	if (!verdict)
		verdict =
		    forward(ctx, packet, side_of(&room->entry, from), decision->source.identity);
	return conclude(ctx, packet, decision, verdict);
}
