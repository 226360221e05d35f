/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Masquerading at the uplinks: pods' packets to the world have their node's address. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/config.h"
#include "lib/conntrack.h"
#include "lib/drop_reasons.h"
#include "lib/locate.h"
#include "lib/packet.h"
#include "lib/rewrite.h"
#include "maps/nat.h"

#define NAT_TRIES      32
#define NAT_FREE_TRIES 24 /* how many of them are for a port that has no mapping */

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

/* Make the key of the mapping of what a pod sends; an echo's identifier stands where a port would.
 */
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

/* Remove the mapping under whose key `reply` packets come back if its flow is closed or gone;
 * returns whether it was. Global, so that the verifier looks at it once, not at each try. */
__noinline int reclaim_mapping(const struct nat_key *reply, __u8 family)
{
	struct packet former = {.family = family};
	const struct nat_entry *back;
	const struct ct_entry *flow;
	struct nat_key own;
	union ct_key key;

	if (!reply)
		return false;
	own = *reply; /* 6.1 takes no memory of another function as a key */
	back = bpf_map_lookup_elem(&cilia_nat, &own);
	if (!back)
		return false;
	former.protocol = reply->protocol;
	former.source = back->address;
	former.source_port = back->port;
	former.destination = reply->remote;
	former.destination_port = reply->remote_port;
	former.icmp_type = echo_type(&former);
	ct_key_of(&former, &key);
	flow = lookup_flow(&former, &key);
	if (flow && !is_closed(flow))
		return false;
	bpf_map_delete_elem(&cilia_nat, &own);
	nat_key_of(&former, &own);
	bpf_map_delete_elem(&cilia_nat, &own);
	return true;
}

/* Search of a port under which nothing comes back yet. */
struct port_search {
	struct nat_key reply; /* with the port, once it is found */
	struct nat_entry back;
	__u32 first; /* try; 0 is the first of nat_ports */
	__u8 family;
	__u8 is_found;
	__u8 pad[2];
};

/* Try a port, called by bpf_loop: the verifier looks at it once. Returns 1 to end the search. */
static long try_port(__u32 number, struct port_search *search)
{
	__u32 ports = nat_ports[1] - nat_ports[0] + 1;
	struct nat_key *reply = &search->reply;

	reply->local_port = bpf_htons(nat_ports[0] + (search->first + number) % ports);
	if (reply->local_port == bpf_htons(tunnel_port))
		return 0;
	if (bpf_map_update_elem(&cilia_nat, reply, &search->back, BPF_NOEXIST) &&
	    (number < NAT_FREE_TRIES || !reclaim_mapping(reply, search->family) ||
	     bpf_map_update_elem(&cilia_nat, reply, &search->back, BPF_NOEXIST)))
		return 0;
	search->is_found = true;
	return 1;
}

/* Take a port that no other flow to the same remote address and port has, or at last one whose flow
 * is closed: the remote may remember that one for a minute (TIME_WAIT), and then answers only what
 * the client sends a second time. Two CPUs may do so for one flow at the same time; the first to
 * enter what it sends has made the mapping. If two take over the port of one ended flow at the same
 * time, the answers go to the later of the two, and the other's connection has to be tried again.
 * Returns the mapping, or NULL. */
static __noinline const struct nat_entry *open_mapping(const struct packet *packet,
						       const struct nat_key *key)
{
	struct port_search search = {
	    .reply = *key, .first = bpf_get_prandom_u32(), .family = packet->family};
	struct nat_entry out = {};

	search.back.address = key->local;
	search.back.port = key->local_port;
	search.reply.is_reply = 1;
	node_address(packet, &search.reply.local);
	bpf_loop(NAT_TRIES, try_port, &search, 0);
	if (search.is_found) {
		out.address = search.reply.local;
		out.port = search.reply.local_port;
		if (bpf_map_update_elem(&cilia_nat, key, &out, BPF_NOEXIST))
			bpf_map_delete_elem(&cilia_nat, &search.reply);
	}
	return bpf_map_lookup_elem(&cilia_nat, key);
}

static __always_inline int rewrite(struct __sk_buff *ctx, const struct packet *packet,
				   const struct rewrite *rewrite)
{
	return packet->is_error ? rewrite_error(ctx, packet, rewrite)
				: rewrite_packet(ctx, packet, rewrite);
}

/* Masquerade what a local pod sends to the world. Returns 0, also if the packet is left as it is,
 * or a verdict. */
static __noinline int masquerade(struct __sk_buff *ctx, const struct packet *packet)
{
	struct rewrite source = {
	    .is_source = true, .is_ipv6 = packet->family == 6, .protocol = packet->protocol};
	const struct nat_entry *entry;
	struct nat_key key;

	nat_key_of(packet, &key);
	entry = bpf_map_lookup_elem(&cilia_nat, &key);
	if (!entry) {
		if (is_non_masquerade(packet) || is_reply(packet))
			return 0;
		entry = packet->is_error ? NULL : open_mapping(packet, &key);
	}
	if (!entry)
		return packet->is_error ? -DROP_CT_INVALID : -DROP_NAT_NO_PORT;
	source.from = packet->source;
	source.to = entry->address;
	source.port_from = packet->source_port;
	source.port_to = entry->port;
	return rewrite(ctx, packet, &source);
}

/* Give what comes back the pod's address, in `packet` too. Returns 0, also if nothing is mapped
 * there, or a verdict. */
static __noinline int reverse_masquerade(struct __sk_buff *ctx, struct packet *packet)
{
	struct rewrite destination = {.is_ipv6 = packet->family == 6, .protocol = packet->protocol};
	struct nat_key key = {.is_reply = 1};
	const struct nat_entry *entry;
	int verdict;

	key.remote = packet->source;
	key.local = packet->destination;
	key.remote_port = packet->source_port;
	key.local_port = packet->destination_port;
	key.protocol = packet->protocol;
	entry = bpf_map_lookup_elem(&cilia_nat, &key);
	if (!entry)
		return 0;
	destination.from = packet->destination;
	destination.to = entry->address;
	destination.port_from = packet->destination_port;
	destination.port_to = entry->port;
	verdict = rewrite(ctx, packet, &destination);
	packet->destination = destination.to;
	packet->destination_port = destination.port_to;
	return verdict;
}
