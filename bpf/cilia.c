// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Entry points of the data plane. They share one object, and so one set of maps. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/arp.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/drop.h"
#include "lib/fast.h"
#include "lib/forward.h"
#include "lib/locate.h"
#include "lib/nat.h"
#include "lib/ndp.h"
#include "lib/offload.h"
#include "lib/parse.h"
#include "lib/pass.h"

#define LOOPBACK_IFINDEX 1 /* in each network namespace */

char _license[] SEC("license") = "Dual BSD/GPL";

/* The coarse clock, for the agent, which can't read it otherwise; attached nowhere. */
SEC("tc")
int read_clock(struct __sk_buff *ctx)
{
	(void)ctx;
	return coarse_now();
}

/* Tell whether a frame is ARP's. A function of its own, since the compiler would take pointers into
 * the frame from where the verifier knows them no more. */
static __noinline bool is_arp(struct __sk_buff *ctx)
{
	const struct ethhdr *ethernet = frame_bytes(ctx, sizeof(*ethernet));

	return ethernet && ethernet->h_proto == bpf_htons(ETH_P_ARP);
}

/* Handle what a pod sends that isn't a packet of a flow, by the verdict of its parsing; returns a
 * TC action. */
static __noinline int handle_neighbour(struct __sk_buff *ctx, struct packet *packet, int verdict)
{
	if (is_arp(ctx))
		verdict = handle_arp(ctx);
	else if (verdict == -DROP_UNKNOWN_ICMP_TYPE && is_neighbour_discovery(packet) &&
		 !is_autoconfiguration(packet))
		verdict = handle_ndp(ctx, packet);
	if (verdict < 0)
		return drop(ctx, packet, NULL, verdict);
	return forwarded(ctx, packet, verdict);
}

/* Packets that a pod sends: TC ingress of the host's end of its link. */
SEC("tc")
int from_pod(struct __sk_buff *ctx)
{
	int verdict = pass_plain(ctx);
	struct packet packet;

	if (verdict != NOT_PLAIN)
		return verdict;
	packet = (struct packet){.hook = HOOK_FROM_POD};
	verdict = parse(ctx, &packet);
	if (!verdict)
		verdict = check_offload(ctx, &packet);
	if (verdict)
		return handle_neighbour(ctx, &packet, verdict);
	return pass(ctx, &packet, ctx->ifindex);
}

/* Packets that this host's stack sends to a pod: TC egress of the host's end of its link. */
SEC("tc")
int to_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_POD};
	int verdict = parse(ctx, &packet);

	if (verdict == -DROP_UNKNOWN_L3 && is_arp(ctx))
		return TC_ACT_OK;
	if (verdict == -DROP_UNKNOWN_ICMP_TYPE && asks_for_pod(ctx, &packet))
		return TC_ACT_OK;
	if (verdict)
		return drop(ctx, &packet, NULL, verdict);
	return pass(ctx, &packet, 0);
}

/* Packets that other nodes send to pods of this one: TC ingress of the VXLAN device. */
SEC("tc")
int from_overlay(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_OVERLAY};
	int verdict = -DROP_NO_TUNNEL_KEY;

	if (read_tunnel(ctx, &packet))
		verdict = parse(ctx, &packet);
	if (verdict)
		return drop(ctx, &packet, NULL, verdict);
	return pass(ctx, &packet, overlay_ifindex);
}

/* Send a packet of this host's stack to the node of its destination; returns 0 or a verdict. */
static __always_inline int send_from_host(struct __sk_buff *ctx, const struct packet *packet)
{
	struct location destination = {};

	if (!is_own_address(&packet->source))
		return -DROP_INVALID_SOURCE;
	locate(&packet->destination, &destination);
	if (!destination.tunnel)
		return -DROP_NO_ENDPOINT;
	return set_tunnel(ctx, IDENTITY_HOST, destination.tunnel);
}

/* Packets that this host's stack sends to pods of other nodes: TC egress of the VXLAN device. Those
 * of pods have their tunnel's key already. */
SEC("tc")
int to_overlay(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_OVERLAY};
	int verdict;

	if (read_tunnel(ctx, &packet))
		return TC_ACT_OK;
	verdict = parse(ctx, &packet);
	if (!verdict)
		verdict = send_from_host(ctx, &packet);
	if (verdict)
		return drop(ctx, &packet, NULL, verdict);
	return forwarded(ctx, &packet, TC_ACT_OK);
}

/* Tell why a packet can't come from outside, as a verdict; 0: it can. It has none of this node's
 * own addresses as its source, since the host is trusted; of IPv6 the stack doesn't ask. Who claims
 * an own address by neighbour discovery is left to the stack, which finds duplicates so. Nothing is
 * loopback's, whatever services may listen there (route_localnet). The loopback device itself is an
 * uplink where it has the node's address; what comes by it is the node's own. */
static __always_inline int check_origin(struct __sk_buff *ctx, const struct packet *packet)
{
	if (!packet->family || is_neighbour_discovery(packet) || ctx->ifindex == LOOPBACK_IFINDEX)
		return 0;
	if (is_loopback(&packet->source) || is_loopback(&packet->destination))
		return -DROP_MARTIAN;
	return host_address_of(&packet->source) ? -DROP_OWN_SOURCE : 0;
}

/* Record the ports of a first fragment that has come back to a pod, by the address and port to
 * which it came: so the later ones come. */
static __noinline void record_returned(struct __sk_buff *ctx, struct packet *packet, __be16 port)
{
	node_address(packet, &packet->destination);
	packet->destination_port = port;
	record_fragment(ctx, packet);
}

/* Packets that come to this node from outside: TC ingress of an uplink. Those that aren't for a pod
 * are for the host, after the programs that others have there (TC_ACT_UNSPEC). */
SEC("tc")
int from_uplink(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_UPLINK};
	struct location pod = {};
	int origin, verdict = parse(ctx, &packet);
	__u32 returned = 0; /* port here of a first fragment that comes back, and bit 16 */

	if (!verdict && overlay_ifindex && is_to_tunnel(&packet))
		return TC_ACT_UNSPEC; /* the kernel's business, and from_overlay's */
	origin = check_origin(ctx, &packet);
	if (origin)
		return drop(ctx, &packet, NULL, origin);
	if (verdict)
		return TC_ACT_UNSPEC;
	if (masquerades && is_node(&packet.destination)) {
		if (packet.fragment == FRAGMENT_FIRST)
			returned = 1 << 16 | packet.destination_port;
		verdict = reverse_masquerade(ctx, &packet);
		if (verdict)
			return drop(ctx, &packet, NULL, verdict);
	}
	if (!locate_local(&packet.destination, &pod))
		return TC_ACT_UNSPEC;
	if (returned)
		packet.fragment = FRAGMENT_NONE; /* recorded below */
	verdict = pass(ctx, &packet, 0);
	if (returned && verdict != TC_ACT_SHOT)
		record_returned(ctx, &packet, returned);
	return verdict;
}

/* Drop a packet of a local pod that leaves this node. */
static __noinline int drop_of_pod(struct __sk_buff *ctx, const struct packet *packet,
				  const struct location *pod, int verdict)
{
	struct findings findings = {
	    .identity = {pod->identity}, .endpoint = {pod->endpoint}, .link = pod->ifindex};

	return drop(ctx, packet, &findings, verdict);
}

/* Judge a packet of a local pod that can't be read: it may leave where pods are known by their own
 * addresses. Returns TC_ACT_UNSPEC, or the verdict of its parsing. */
static __noinline int judge_unread(const struct packet *packet, int verdict)
{
	return is_non_masquerade(packet) ? TC_ACT_UNSPEC : verdict;
}

/* Packets that leave this node: TC egress of an uplink. Only what pods send to the world is
 * touched, and a flow whose mapping is known costs one lookup; what can't have the node's address
 * doesn't leave. */
SEC("tc")
int to_uplink(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_UPLINK};
	struct rewrite source = {};
	struct location pod = {};
	bool is_mapped;
	int verdict;

	if (!masquerades)
		return TC_ACT_UNSPEC;
	verdict = parse_apart(ctx, &packet);
	if (!packet.family)
		return TC_ACT_UNSPEC;
	if (is_node(&packet.source)) {
		if (!verdict)
			yield_to_node(&packet);
		return TC_ACT_UNSPEC;
	}
	is_mapped = !verdict && find_mapping(ctx, &packet, &source);
	if (!is_mapped && !locate_local(&packet.source, &pod))
		return TC_ACT_UNSPEC;
	if (verdict)
		verdict = judge_unread(&packet, verdict);
	else
		verdict = is_mapped ? rewrite(ctx, &packet, &source)
				    : masquerade(ctx, &packet, &source, pod.endpoint);
	if (verdict && verdict != TC_ACT_UNSPEC)
		return drop_of_pod(ctx, &packet, &pod, verdict);
	if (!verdict)
		track_fragment(ctx, &packet);
	return forwarded(ctx, &packet, TC_ACT_UNSPEC);
}
