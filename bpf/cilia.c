// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Entry points of the data plane. They share one object, and so one set of maps. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/arp.h"
#include "lib/config.h"
#include "lib/event.h"
#include "lib/packet.h"
#include "lib/pass.h"

char _license[] SEC("license") = "Dual BSD/GPL";

static __noinline int pass_arp(struct __sk_buff *ctx, const struct packet *packet)
{
	int action = TC_ACT_SHOT;
	int reason = handle_arp(ctx, &action);

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

	if (reason == DROP_UNKNOWN_L3 && ethernet_protocol(ctx) == bpf_htons(ETH_P_ARP))
		return pass_arp(ctx, &packet);
	if (reason)
		return drop_unseen(ctx, &packet, reason);
	return pass(ctx, &packet, ctx->ifindex);
}

/* What this host's stack sends to a pod: TC egress of the host's end of its link. */
SEC("tc")
int to_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_TO_POD};
	int reason = parse(ctx, &packet);

	if (reason == DROP_UNKNOWN_L3 && ethernet_protocol(ctx) == bpf_htons(ETH_P_ARP))
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
