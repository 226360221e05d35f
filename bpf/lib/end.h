/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who is at either end of a packet. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/address.h"
#include "lib/config.h"
#include "maps/endpoint.h"
#include "maps/gateway.h"
#include "maps/ipcache.h"

#define IDENTITY_HOST        1
#define IDENTITY_WORLD       2
#define IDENTITY_REMOTE_NODE 6
#define IDENTITY_ALLOCATED   256
#define IDENTITY_SCOPE_SHIFT 24 /* what has bits above doesn't travel in tunnels: identities of prefixes, of nodes */
#define NODE_SCOPE           2  /* these bits in the identity of nodes with labels */

struct end {
	__u32 identity;
	__u32 ifindex; /* host's end of the pod's link; 0: not a pod of this node */
	__be32 tunnel; /* node behind which it lives */
	__u32 bucket;  /* of its address in cilia_addresses */
	__u16 policy_slot;
	__u16 endpoint;
	__u8 mac[6];
	__u8 flags; /* enum endpoint_flag */
	__u8 pad;
};

static __always_inline bool is_ipv4(const struct address *address)
{
	return word_of(address, 2) == bpf_htonl(0xffff) && !word_of(address, 1) && !word_of(address, 0);
}

static __always_inline bool is_node(const struct address *address)
{
	const volatile __be32 *word = (const volatile __be32 *)node_ipv6.byte;

	if (is_ipv4(address))
		return ipv4_of(address) && ipv4_of(address) == node_ipv4;
	return word_of(address, 3) == word[3] && word_of(address, 2) == word[2] && word_of(address, 1) == word[1] &&
	       word_of(address, 0) == word[0];
}

/* What pods have as their gateway; NULL or all zero: none. */
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

static __always_inline bool locate_pod(const struct address *address, struct end *end)
{
	struct endpoint_key key = {.address = *address}; /* a copy: see decide() */
	const struct endpoint *endpoint = bpf_map_lookup_elem(&cilia_endpoints, &key);

	if (!endpoint)
		return false;
	end->identity = endpoint->identity;
	end->ifindex = endpoint->ifindex;
	end->policy_slot = endpoint->policy_slot;
	end->endpoint = endpoint->id;
	end->flags = endpoint->flags;
	__builtin_memcpy(end->mac, endpoint->mac, sizeof(end->mac));
	return true;
}

static __always_inline bool is_pod_at(const struct address *address, __u32 ifindex)
{
	struct end end = {};

	return locate_pod(address, &end) && end.ifindex == ifindex;
}

static __always_inline void locate(const struct address *address, struct end *end)
{
	struct ipcache_key key = {.prefixlen = 128};
	const struct ipcache_entry *entry;

	if (locate_pod(address, end))
		return;
	end->identity = is_own_address(address) ? IDENTITY_HOST : IDENTITY_WORLD;
	if (end->identity == IDENTITY_HOST)
		return;
	key.address = *address;
	entry = bpf_map_lookup_elem(&cilia_ipcache, &key);
	if (!entry)
		return;
	end->identity = entry->identity;
	end->tunnel = is_native ? 0 : entry->tunnel;
}

static __always_inline bool is_remote_node(__u32 identity)
{
	return identity == IDENTITY_REMOTE_NODE || identity >> IDENTITY_SCOPE_SHIFT == NODE_SCOPE;
}

/* What comes by the overlay says whose it is. Which node's host it is, and where answers go, its address says if it is
 * known: the packet may have left from an address that its node has no more when it is answered. */
static __always_inline void locate_remote(const struct address *address, struct end *end)
{
	struct ipcache_key key = {.prefixlen = 128, .address = *address};
	const struct ipcache_entry *entry = bpf_map_lookup_elem(&cilia_ipcache, &key);

	if (!entry)
		return;
	if (end->identity == IDENTITY_REMOTE_NODE && is_remote_node(entry->identity))
		end->identity = entry->identity;
	if (entry->tunnel)
		end->tunnel = entry->tunnel;
}

/* Tell whether an end is a pod by its identity, though it is neither here nor behind a tunnel. */
static __always_inline bool is_nowhere(const struct end *end)
{
	return !is_native && !end->ifindex && !end->tunnel && end->identity >= IDENTITY_ALLOCATED &&
	       !(end->identity >> IDENTITY_SCOPE_SHIFT);
}
