// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Entry points of the data plane. They share one object, and so one set of maps. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/arp.h"
#include "lib/config.h"
#include "lib/event.h"
#include "lib/nat.h"
#include "lib/ndp.h"
#include "lib/parse.h"
#include "lib/pass.h"

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline bool is_arp(const struct packet *packet)
{
	return packet->ethernet_protocol == bpf_htons(ETH_P_ARP);
}

/* Drop what isn't a packet of a flow; nobody wants to read what links say when they come up. */
static __noinline int drop_other(struct __sk_buff *ctx, const struct packet *packet, int reason)
{
	if (reason != DROP_UNKNOWN_ICMP_TYPE || !is_chatter(packet))
		return drop_unseen(ctx, packet, reason);
	count(reason, packet->hook, ctx->len);
	return TC_ACT_SHOT;
}

/* What a pod sends that isn't a packet of a flow; returns a TC action. */
static __noinline int pass_control(struct __sk_buff *ctx, struct packet *packet, int reason)
{
	int action = TC_ACT_SHOT;

	if (is_arp(packet))
		reason = handle_arp(ctx, &action);
	else if (reason == DROP_UNKNOWN_ICMP_TYPE && is_neighbour_discovery(packet) && !is_chatter(packet))
		reason = handle_ndp(ctx, packet, &action);
	if (reason)
		return drop_other(ctx, packet, reason);
	count(FORWARDED, packet->hook, ctx->len);
	return action;
}

/* What a pod sends: TC ingress of the host's end of its link. */
SEC("tc")
int from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};
	int reason = parse(ctx, &packet);

	if (reason)
		return pass_control(ctx, &packet, reason);
	return pass(ctx, &packet, ctx->ifindex);
}

/* What this host's stack sends to a pod: TC egress of the host's end of its link. */
SEC("tc")
int to_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_POD};
	int reason = parse(ctx, &packet);

	if (is_arp(&packet) || (reason == DROP_UNKNOWN_ICMP_TYPE && is_neighbour_discovery(&packet)))
		return TC_ACT_OK;
	if (reason)
		return drop_other(ctx, &packet, reason);
	return pass(ctx, &packet, 0);
}

/* What other nodes send to pods of this one: TC ingress of the VXLAN device. */
SEC("tc")
int from_overlay(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_OVERLAY};
	int reason;

	if (!read_tunnel(ctx, &packet))
		return drop_unseen(ctx, &packet, DROP_NO_TUNNEL_KEY);
	reason = parse(ctx, &packet);
	if (reason)
		return drop_unseen(ctx, &packet, reason);
	return pass(ctx, &packet, overlay_ifindex);
}

/* What this host's stack sends to pods of other nodes: TC egress of the VXLAN device. The packets of pods have their
 * tunnel's key already. */
SEC("tc")
int to_overlay(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_OVERLAY};
	struct end remote = {};
	int reason, action;

	if (read_tunnel(ctx, &packet))
		return TC_ACT_OK;
	reason = parse(ctx, &packet);
	if (reason)
		return drop_other(ctx, &packet, reason);
	if (!is_own_address(&packet.source))
		return drop_unseen(ctx, &packet, DROP_INVALID_SOURCE);
	locate(&packet.destination, &remote);
	if (!remote.tunnel)
		return drop_unseen(ctx, &packet, DROP_NO_ENDPOINT);
	action = set_tunnel(ctx, IDENTITY_HOST, remote.tunnel);
	if (action)
		return drop_unseen(ctx, &packet, action);
	count(FORWARDED, packet.hook, ctx->len);
	return TC_ACT_OK;
}

/* Tell whether a packet is one of the tunnel's own, which is the kernel's business. */
static __always_inline bool is_tunnelled(const struct packet *packet)
{
	return overlay_ifindex && packet->protocol == IPPROTO_UDP && packet->destination_port == bpf_htons(tunnel_port);
}

/* What comes to this node from outside: TC ingress of an uplink. What isn't for a pod is for the host, after the
 * programs that others have there (TC_ACT_UNSPEC). */
SEC("tc")
int from_uplink(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_UPLINK};
	struct end pod = {};
	int reason = parse(ctx, &packet);

	if (reason || is_tunnelled(&packet))
		return TC_ACT_UNSPEC;
	if (masquerades && is_own_address(&packet.destination)) {
		note_fragment(ctx, &packet);
		reason = unmasquerade(ctx, &packet);
		if (reason)
			return drop_unseen(ctx, &packet, reason);
	}
	if (!locate_pod(&packet.destination, &pod))
		return TC_ACT_UNSPEC;
	return pass(ctx, &packet, 0);
}

/* What leaves this node: TC egress of an uplink. Only what pods send to the world is touched. */
SEC("tc")
int to_uplink(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_UPLINK};
	struct end pod = {};
	int reason;

	if (!masquerades || parse(ctx, &packet) || !locate_pod(&packet.source, &pod))
		return TC_ACT_UNSPEC;
	note_fragment(ctx, &packet);
	reason = masquerade(ctx, &packet);
	if (reason)
		return drop_unseen(ctx, &packet, reason);
	count(FORWARDED, packet.hook, ctx->len);
	return TC_ACT_UNSPEC;
}
