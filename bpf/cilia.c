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
#include "lib/ndp.h"
#include "lib/parse.h"
#include "lib/pass.h"

char _license[] SEC("license") = "Dual BSD/GPL";

static __always_inline bool is_arp(const struct packet *packet)
{
	return packet->ethernet_protocol == bpf_htons(ETH_P_ARP);
}

/* What a pod sends that isn't a packet of a flow; returns a TC action. */
static __noinline int pass_control(struct __sk_buff *ctx, struct packet *packet, int reason)
{
	int action = TC_ACT_SHOT;

	if (reason == DROP_UNKNOWN_ICMP_TYPE && is_chatter(packet)) {
		count(reason, packet->hook, ctx->len);
		return TC_ACT_SHOT;
	}
	if (is_arp(packet))
		reason = handle_arp(ctx, &action);
	else if (reason == DROP_UNKNOWN_ICMP_TYPE && is_neighbour_discovery(packet))
		reason = handle_ndp(ctx, packet, &action);
	if (reason)
		return drop_unseen(ctx, packet, reason);
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
		return drop_unseen(ctx, &packet, reason);
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
