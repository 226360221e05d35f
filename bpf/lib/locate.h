/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Location of an address: whose it is, and how packets get there.
 *
 *   an address is   because                            identity          ifindex  tunnel
 *   martian         no host has it alone               UNKNOWN           0        0
 *   local           cilia_endpoints has it             the endpoint's    its link 0
 *   own             cilia_host_addresses has it        HOST              0        0
 *   remote          cilia_ipcache has it, with a node  the entry's       0        the node
 *   routed          cilia_ipcache has it otherwise     the entry's       0        0
 *   world           nothing has it                     WORLD             0        0
 *
 * A node's own address is routed, and has its node all the same: pods reach it by the underlay, but
 * packets from it may come by its tunnel, and answers to these go back by it. A pod that the
 * ipcache doesn't know yet is behind the node of its block. No packet says where a tunnel leads.
 *
 * With native routing nothing is remote, since the underlay routes to other nodes' pods. With an
 * overlay a routed address whose identity was allocated to pods is nowhere: its node isn't known
 * yet, or it was a pod of this node and is gone.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/config.h"
#include "lib/drop_reasons.h"
#include "lib/packet.h"
#include "maps/block.h"
#include "maps/endpoint.h"
#include "maps/gateway.h"
#include "maps/host_address.h"
#include "maps/identity.h"
#include "maps/ipcache.h"

struct location {
	__u32 identity;
	__u32 ifindex; /* host's end of the endpoint's link; 0: not local */
	__be32 tunnel; /* node behind which it lives; 0: not remote */
	__u32 bucket;  /* its address's in cilia_addresses */
	__u16 policy_slot;
	__u16 endpoint; /* id; 0: not local */
	__u8 mac[6];
	__u16 owner; /* number of the pod; 0: not known, or no pod */
	__u8 flags;  /* enum endpoint_flag */
	__u8 pad[3];
};

/* Tell whether an address is the node's on the underlay, which masqueraded packets have. */
static __always_inline bool is_node(const struct address *address)
{
	const volatile __be32 *word = (const volatile __be32 *)node_ipv6.byte;

	if (is_ipv4(address))
		return ipv4_of(address) && ipv4_of(address) == node_ipv4;
	return word_of(address, 3) == word[3] && word_of(address, 2) == word[2] &&
	       word_of(address, 1) == word[1] && word_of(address, 0) == word[0];
}

/* Address that pods have as their gateway; NULL or all zero: none. */
static __always_inline const struct address *gateway_for(__u32 family)
{
	__u32 index = family == 6 ? GATEWAY_IPV6 : GATEWAY_IPV4;

	return bpf_map_lookup_elem(&cilia_gateways, &index);
}

static __always_inline bool is_gateway(const struct address *address)
{
	const struct address *gateway = gateway_for(is_ipv4(address) ? 4 : 6);

	return gateway && is_same_address(address, gateway);
}

/* Kind of an address that this node has, enum host_address_kind; 0: it hasn't it. */
static __always_inline __u32 host_address_of(const struct address *address)
{
	struct host_address_key key = {.address = *address}; /* a copy: see decide() */
	const __u32 *kind = bpf_map_lookup_elem(&cilia_host_addresses, &key);

	return kind ? *kind : 0;
}

static __always_inline bool is_own_address(const struct address *address)
{
	return host_address_of(address) == HOST_ADDRESS_OWN;
}

/* Locate an address of a local endpoint; false if it isn't one. */
static __always_inline bool locate_local(const struct address *address, struct location *location)
{
	struct endpoint_key key = {.address = *address}; /* a copy: see decide() */
	const struct endpoint *endpoint = bpf_map_lookup_elem(&cilia_endpoints, &key);

	if (!endpoint)
		return false;
	location->identity = endpoint->identity;
	location->ifindex = endpoint->ifindex;
	location->policy_slot = endpoint->policy_slot;
	location->endpoint = location->owner = endpoint->id;
	location->flags = endpoint->flags;
	__builtin_memcpy(location->mac, endpoint->mac, sizeof(location->mac));
	return true;
}

/* Tell whether an address is that of the endpoint behind a device. */
static __always_inline bool is_local_at(const struct address *address, __u32 ifindex)
{
	struct location location = {};

	return locate_local(address, &location) && location.ifindex == ifindex;
}

/* Locate any address. */
static __always_inline void locate(const struct address *address, struct location *location)
{
	struct ipcache_key key = {.prefixlen = 128};
	const struct ipcache_entry *entry;
	__u32 kind;

	if (locate_local(address, location))
		return;
	kind = host_address_of(address);
	location->identity = kind == HOST_ADDRESS_OWN ? IDENTITY_HOST : IDENTITY_UNKNOWN;
	if (kind || is_martian(address))
		return;
	location->identity = IDENTITY_WORLD;
	key.address = *address;
	entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	if (!entry)
		return;
	location->identity = entry->identity;
	location->owner = entry->owner;
	if (!is_native && !(entry->flags & IPCACHE_ROUTED))
		location->tunnel = entry->tunnel;
}

static __always_inline bool is_remote_node(__u32 identity)
{
	return identity == IDENTITY_REMOTE_NODE ||
	       identity >> IDENTITY_SCOPE_SHIFT == IDENTITY_SCOPE_NODE;
}

/* Tell whether an identity was allocated to pods; only such identities travel in tunnels. */
static __always_inline bool is_allocated(__u32 identity)
{
	return identity >= IDENTITY_ALLOCATED && !(identity >> IDENTITY_SCOPE_SHIFT);
}

/* Tell whether a sender's identity, as its node says it, goes with what the ipcache has at its
 * address: a node's own identity with its own addresses alone. Of its pods a node knows first. */
static __always_inline bool is_plausible(__u32 claimed, __u32 known)
{
	if (claimed == IDENTITY_REMOTE_NODE)
		return is_remote_node(known);
	return is_allocated(claimed) && !is_remote_node(known);
}

/* Resident of an address, as the ipcache has it. */
struct resident {
	__u32 identity;
	__u16 owner;
	__u16 pad;
};

/* Node whose tunnel an address's packets come by, and who lives there; 0: none. */
static __always_inline __be32 node_behind(const struct address *address, struct resident *resident)
{
	struct ipcache_key key = {.prefixlen = 128, .address = *address};
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	const struct block *block;

	resident->identity = entry ? entry->identity : IDENTITY_WORLD;
	resident->owner = entry ? entry->owner : 0;
	if (entry && entry->tunnel)
		return entry->tunnel;
	block = bpf_map_lookup_elem(&cilia_blocks, &key);
	return block ? block->tunnel : 0;
}

/* Tell whether a packet that came by the tunnel was sent by a node, from any of its addresses. */
static __always_inline bool is_sent_by(const struct packet *packet, __be32 node)
{
	struct ipcache_key key = {.prefixlen = 128};
	const struct ipcache_entry *entry;

	if (packet->tunnel == node)
		return node;
	map_ipv4(&key.address, packet->tunnel);
	entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	return entry && node && entry->tunnel == node && is_remote_node(entry->identity);
}

/* Locate a sender that came by the overlay, whose packet says its identity and the node that sent
 * it. Anybody can send such a packet, so it counts only as far as the agent's tables bear it out:
 * that node has the address, or the block that it is of. Returns 0 or a verdict. */
static __always_inline int locate_remote(const struct packet *packet, struct location *source)
{
	struct resident known = {};

	if (locate_local(&packet->source, source))
		return -DROP_INVALID_SOURCE;
	if (host_address_of(&packet->source))
		return -DROP_OWN_SOURCE;
	source->tunnel = node_behind(&packet->source, &known);
	if (!is_sent_by(packet, source->tunnel))
		return -DROP_UNKNOWN_SENDER;
	if (!is_plausible(packet->identity, known.identity))
		return -DROP_INVALID_IDENTITY;
	source->identity = is_remote_node(known.identity) ? known.identity : packet->identity;
	source->owner = known.owner;
	return 0;
}

/* Tell whether an address is a pod's by its identity, though it is neither local nor remote. */
static __always_inline bool is_nowhere(const struct location *location)
{
	return !is_native && !location->ifindex && !location->tunnel &&
	       is_allocated(location->identity);
}
