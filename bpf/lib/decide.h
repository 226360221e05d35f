/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The slow path: the first packet of a flow, and the next one after something has changed.
 *
 * Both local ends' policies are consulted at once, and both directions are written into the flow, so that replies need
 * no policy. A flow that is decided anew is decided in the direction of its initiator, whichever end sent the packet.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/count.h"
#include "lib/end.h"
#include "lib/event.h"
#include "lib/forward.h"
#include "lib/policy.h"

static __always_inline bool has_mac(struct __sk_buff *ctx, const __u8 *mac)
{
	const struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return false;
	for (int i = 0; i < ETH_ALEN; i++)
		if (ethernet->h_source[i] != mac[i])
			return false;
	return true;
}

/* A pod sends from its own address. With an overlay, which marks its packets as such, nodes trust what comes to the
 * tunnel's port. */
static __always_inline int locate_sender(struct __sk_buff *ctx, const struct packet *packet, struct end *source)
{
	if (!locate_pod(&packet->source, source) || source->ifindex != ctx->ifindex)
		return DROP_INVALID_SOURCE;
	if (!has_mac(ctx, source->mac))
		return DROP_INVALID_MAC;
	if (overlay_ifindex && packet->protocol == IPPROTO_UDP && packet->destination_port == bpf_htons(tunnel_port))
		return DROP_ENCAP_PROHIBITED;
	return 0;
}

/* Pods come to this host's stack and its uplinks neither by their own link (they are redirected past it) nor, with an
 * overlay, from another node; who has the address of one there is not it. */
static __always_inline int locate_source(struct __sk_buff *ctx, const struct packet *packet, struct end *source)
{
	if (packet->hook == HOOK_FROM_OVERLAY) {
		source->identity = packet->identity;
		source->tunnel = packet->tunnel;
		locate_remote(&packet->source, source);
		return 0;
	}
	if (packet->hook == HOOK_FROM_POD)
		return locate_sender(ctx, packet, source);
	locate(&packet->source, source);
	return source->ifindex || source->tunnel ? DROP_INVALID_SOURCE : 0;
}

static __always_inline int locate_destination(struct __sk_buff *ctx, const struct packet *packet,
					      struct end *destination)
{
	locate(&packet->destination, destination);
	if (packet->hook == HOOK_TO_POD)
		return destination->ifindex == ctx->ifindex ? 0 : DROP_NO_ENDPOINT;
	if (packet->hook == HOOK_FROM_OVERLAY)
		return destination->ifindex || destination->identity == IDENTITY_HOST ? 0 : DROP_NO_ENDPOINT;
	return is_nowhere(destination) ? DROP_NO_ENDPOINT : 0;
}

static __always_inline int locate_ends(struct __sk_buff *ctx, const struct packet *packet, struct decision *decision)
{
	int reason;

	decision->source.bucket = bucket_of(&packet->source);
	decision->destination.bucket = bucket_of(&packet->destination);
	decision->generation = changes_of(decision->source.bucket, decision->destination.bucket);
	reason = locate_source(ctx, packet, &decision->source);
	return reason ? reason : locate_destination(ctx, packet, &decision->destination);
}

static __always_inline bool add_revision(const struct end *end, __u32 epoch, struct policy_version *version, __u32 *sum)
{
	if (!end->ifindex)
		return true;
	if (!version_at(end->policy_slot, epoch, version))
		return false;
	*sum += version->revision;
	return true;
}

static __always_inline int consult_one(struct decision *decision, struct policy_query *query, const struct end *subject,
				       const struct end *peer)
{
	struct policy_answer answer = {};

	query->slot = subject->policy_slot;
	query->identity = peer->identity;
	query->is_audited = subject->flags & ENDPOINT_AUDIT;
	decision->direction = query->direction;
	consult(query, &answer);
	decision->cookie = answer.cookie;
	decision->audited |= answer.audited;
	return answer.reason;
}

/* Consult the policies of both ends. Of the generation each part is read before what it stands for, the changes of
 * addresses before the ends are located: what changes in between makes the flow stale at its next packet. */
static __always_inline int judge(struct decision *decision, const struct packet *packet, const struct end *initiator,
				 const struct end *responder, __be16 port)
{
	struct policy_query query = {.protocol = packet->protocol, .port = port};
	struct policy_version egress = {}, ingress = {};
	__u32 epoch = epoch_now(), sum = 0;
	int reason;

	decision->direction = POLICY_EGRESS;
	if (!add_revision(initiator, epoch, &egress, &sum))
		return DROP_POLICY_NOT_READY;
	decision->direction = POLICY_INGRESS;
	if (!add_revision(responder, epoch, &ingress, &sum))
		return DROP_POLICY_NOT_READY;
	decision->generation = generation_of(decision->generation + sum);
	if (initiator->ifindex) {
		query.version = egress;
		query.direction = POLICY_EGRESS;
		reason = consult_one(decision, &query, initiator, responder);
		if (reason)
			return reason;
	}
	if (!responder->ifindex)
		return 0;
	query.version = ingress;
	query.direction = POLICY_INGRESS;
	return consult_one(decision, &query, responder, initiator);
}

static __always_inline void fill_side(struct ct_side *side, const struct end *from, const struct end *to)
{
	side->source_ifindex = from->tunnel ? overlay_ifindex : from->ifindex;
	side->ifindex = to->ifindex;
	side->tunnel = to->tunnel;
	__builtin_memcpy(side->mac, to->mac, sizeof(side->mac));
}

static __always_inline void keep_counts(struct ct_entry *fresh, const struct ct_entry *former)
{
	fresh->side[0].packets = former->side[0].packets;
	fresh->side[0].bytes = former->side[0].bytes;
	fresh->side[0].tcp_flags = former->side[0].tcp_flags;
	fresh->side[1].packets = former->side[1].packets;
	fresh->side[1].bytes = former->side[1].bytes;
	fresh->side[1].tcp_flags = former->side[1].tcp_flags;
}

/* A function of its own, since the compiler must not know where on the stack the ends lie: it would choose between the
 * two by arithmetic on pointers that the verifier refuses. */
static __noinline void fill_entry(struct ct_entry *entry, const struct end *low, const struct end *high)
{
	entry->policy_slot[0] = low->policy_slot;
	entry->policy_slot[1] = high->policy_slot;
	entry->identity[0] = low->identity;
	entry->identity[1] = high->identity;
	entry->bucket[0] = low->bucket;
	entry->bucket[1] = high->bucket;
	fill_side(&entry->side[0], low, high);
	fill_side(&entry->side[1], high, low);
}

/* A flow that came by the overlay keeps what its packets said of their sender while the ipcache doesn't know it. */
static __always_inline void recall_remote(struct end *end, const struct ct_entry *former, __u32 which)
{
	const struct ct_side *towards = which ? &former->side[0] : &former->side[1];

	if (end->ifindex || end->tunnel || !towards->tunnel)
		return;
	end->identity = which ? former->identity[1] : former->identity[0];
	end->tunnel = towards->tunnel;
}

static __always_inline int decide_ends(struct decision *decision, const struct packet *packet, bool is_reply)
{
	__be16 port = is_reply ? packet->source_port : packet->destination_port;

	if (is_icmp(packet))
		port = bpf_htons(echo_type(packet));
	if (is_reply)
		return judge(decision, packet, &decision->destination, &decision->source, port);
	return judge(decision, packet, &decision->source, &decision->destination, port);
}

static __always_inline int send(struct __sk_buff *ctx, const struct packet *packet, const struct ct_entry *entry,
				__u32 from, const struct decision *decision)
{
	const struct ct_side *side = from ? &entry->side[1] : &entry->side[0];
	int action = forward(ctx, packet, side, decision->source.identity);

	if (action < 0)
		return refuse(ctx, packet, decision, action);
	report(ctx, packet, decision, EVENT_VERDICT, 0);
	if (decision->audited)
		count(AUDITED, packet->hook, ctx->len);
	count(FORWARDED, packet->hook, ctx->len);
	return action;
}

static __always_inline struct ct_scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cilia_scratch, &zero);
}

/* Remember what was decided; `former` is what was known of the flow, or NULL. Returns its entry, or NULL without room
 * for it. */
static __always_inline struct ct_entry *enter(const struct packet *packet, const union ct_key *key, __u32 from,
					      const struct ct_entry *former, const struct decision *decision,
					      __u32 bytes)
{
	struct ct_scratch *room = scratch();
	struct ct_entry *entry;
	struct ct_side *side;

	if (!room)
		return NULL;
	entry = &room->entry;
	__builtin_memset(entry, 0, sizeof(*entry));
	if (former)
		keep_counts(entry, former);
	entry->generation = decision->generation;
	entry->initiator = decision->initiator;
	if (from)
		fill_entry(entry, &decision->destination, &decision->source);
	else
		fill_entry(entry, &decision->source, &decision->destination);
	side = from ? &entry->side[1] : &entry->side[0];
	ct_account(entry, side, packet->tcp_flags, bytes);
	side->traced = entry->last_seen; /* its verdict is reported */
	return keep_flow(packet, key, entry) ? NULL : entry;
}

/* Decide about a packet whose flow isn't known, isn't current, or came from where it shouldn't; returns a TC action.
 *
 * Two CPUs may decide about one flow at the same time: the later entry stays, and the earlier packet isn't counted. If
 * they carry its two directions, the answer may stand as the initiator; such a flow is denied after a change that
 * wouldn't have denied it, and begins anew with the next packet of the real initiator.
 *
 * Global, so that the verifier looks at it once, not on each way that leads here. What such a function is given can't
 * be the key of a map before Linux 6.2, so keys are copied. */
__noinline int decide(struct __sk_buff *ctx, const struct packet *packet, const union ct_key *flow, __u32 from)
{
	const struct ct_entry *former, *entry;
	struct decision decision = {};
	struct ct_scratch *room = scratch();
	union ct_key *key;
	bool is_reply;
	int reason;

	if (!packet || !flow || !room)
		return TC_ACT_SHOT;
	key = (union ct_key *)&room->key;
	*key = *flow;
	reason = locate_ends(ctx, packet, &decision);
	if (reason)
		return drop(ctx, packet, &decision, reason);
	if (!decision.source.ifindex && !decision.destination.ifindex) {
		count(FORWARDED, packet->hook, ctx->len);
		return hand_up(ctx); /* from another node to this host: no pod's policy is concerned */
	}
	former = packet->is_known ? find_flow(packet, key) : NULL;
	if (former && is_reopening(former, packet))
		former = NULL;
	if (former)
		recall_remote(&decision.destination, former, !from);
	else if (is_echo_reply(packet))
		return drop(ctx, packet, &decision, DROP_CT_INVALID);
	is_reply = former && former->initiator != from;
	decision.initiator = is_reply ? !from : from;
	decision.is_reply = is_reply;
	reason = decide_ends(&decision, packet, is_reply);
	if (reason) {
		if (packet->is_known)
			forget_flow(packet, key);
		return drop(ctx, packet, &decision, reason);
	}
	entry = enter(packet, key, from, former, &decision, ctx->len);
	if (!entry)
		return drop(ctx, packet, &decision, DROP_CT_CREATE);
	return send(ctx, packet, entry, from, &decision);
}
