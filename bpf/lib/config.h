/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Configuration, which the agent sets between open and load; the verifier prunes what a value rules
 * out. */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"

/* Addresses of this node on the underlay; 0: none. */
const volatile __be32 node_ipv4 = 0;
const volatile struct address node_ipv6 = {};

/* MAC address that pods see as their neighbour's: 02:"cilia". */
const volatile __u8 gateway_mac[6] __attribute__((aligned(2))) = {0x02, 'c', 'i', 'l', 'i', 'a'};

/* The collect-metadata VXLAN device, 0: none; what pods must not send to, since nodes trust it; and
 * the longest packet in bytes that fits into the tunnel, 0: not checked. */
const volatile __u32 overlay_ifindex = 0;
const volatile __u16 tunnel_port = 8472;
const volatile __u32 overlay_mtu = 0;

/* Packets between nodes' pods are routed by the underlay as they are. */
const volatile bool is_native = false;

/* Pods' packets to the world leave with the node's address; and the most mappings that one pod has
 * for that, 0: no limit. */
const volatile bool masquerades = false;
const volatile __u32 nat_quota = 8192;

/* BPF_F_IPV6 where the kernel knows it (6.16): without it, IPv6 by devices that sum up whole
 * packets (CHECKSUM_COMPLETE) is logged as faulty and summed up again. */
const volatile __u64 ipv6_checksum_flag = 0;

const volatile bool tracks_fragments = true;

/* Compare what a pod's packets ask of offloads with their headers: Linux 6.2. */
const volatile bool reads_offload = false;

/* Highest rates of reports per second, and how many may come at once (lib/budget.h): of each link
 * at each hook, and of the node. Rate 0: no limit; that of the node holds only beside a link's. */
const volatile __u32 event_rate = 0;
const volatile __u32 event_burst = 0;
const volatile __u32 node_event_rate = 0;
const volatile __u32 node_event_burst = 0;

/* Rate of the coarse clock (lib/clock.h): the kernel's CONFIG_HZ. */
const volatile __u32 ticks_per_second = 250;

/* Report an established flow that often, in ticks of the coarse clock, and when TCP begins or ends;
 * 0: only verdicts. */
const volatile __u32 trace_ticks = 0;

/* Take plain packets of established flows the short way (lib/fast.h); false for tests. */
const volatile bool has_front_path = true;

static __always_inline void write_gateway_mac(__u8 *mac)
{
	for (int i = 0; i < (int)sizeof(gateway_mac) / 2; i++)
		((__u16 *)mac)[i] = ((const volatile __u16 *)gateway_mac)[i];
}
