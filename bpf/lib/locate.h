/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Location of an address: whose it is, and how packets get there.
 *
 *   an address is   because                            identity          ifindex  tunnel
 *   local           cilia_endpoints has it             the endpoint's    its link 0
 *   own             it is this node's, or a gateway    HOST              0        0
 *   remote          cilia_ipcache has it, with a node  the entry's       0        the node
 *   routed          cilia_ipcache has it, without one  the entry's       0        0
 *   world           nothing has it                     WORLD             0        0
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
#include "maps/endpoint.h"
#include "maps/gateway.h"
#include "maps/identity.h"
#include "maps/ipcache.h"

struct location {
	__u32 identity;
	__u32 ifindex; /* host's end of the endpoint's link; 0: not local */
	__be32 tunnel; /* node behind which it lives; 0: not remote */
	__u32 bucket;  /* of its address in cilia_addresses */
	__u16 policy_slot;
	__u16 endpoint; /* id; 0: not local */
	__u8 mac[6];
	__u8 flags; /* enum endpoint_flag */
	__u8 pad;
};

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

static __always_inline bool is_own_address(const struct address *address)
{
	return !is_no_address(address) && (is_node(address) || is_gateway(address));
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
	location->endpoint = endpoint->id;
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

	if (locate_local(address, location))
		return;
	location->identity = is_own_address(address) ? IDENTITY_HOST : IDENTITY_WORLD;
	if (location->identity == IDENTITY_HOST)
		return;
	key.address = *address;
	entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	if (!entry)
		return;
	location->identity = entry->identity;
	location->tunnel = is_native ? 0 : entry->tunnel;
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

/* Refine the location of a sender that came by the overlay, which says whose the packet is. Which
 * node's host it is, and where replies go, its address says if it is known: the packet may have
 * left from an address that its node has no more when it is answered. */
static __always_inline void locate_remote(const struct address *address, struct location *location)
{
	struct ipcache_key key = {.prefixlen = 128, .address = *address};
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&cilia_ipcache, &key);

	if (!entry)
		return;
	if (location->identity == IDENTITY_REMOTE_NODE && is_remote_node(entry->identity))
		location->identity = entry->identity;
	if (entry->tunnel)
		location->tunnel = entry->tunnel;
}

/* Tell whether an address is a pod's by its identity, though it is neither local nor remote. */
static __always_inline bool is_nowhere(const struct location *location)
{
	return !is_native && !location->ifindex && !location->tunnel &&
	       is_allocated(location->identity);
}
