/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Exit of every packet that is dropped: counted, reported, and its sender told where that helps. */
#pragma once

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "lib/count.h"
#include "lib/drop_reasons.h"
#include "lib/event.h"
#include "lib/icmp.h"
#include "lib/packet.h"
#include "lib/pmtu.h"

/* Drop a packet for the reason that `verdict` is the negative of; returns a TC action. `findings`
 * is NULL where the packet's ends aren't known. What every link says when it comes up is counted,
 * but nobody wants to read of it.
 *
 * Global, so that the verifier looks at it once, not on each way that leads here. */
__noinline int drop(struct __sk_buff *ctx, const struct packet *packet,
		    const struct findings *findings, int verdict)
{
	int reason = -verdict;

	if (!packet)
		return TC_ACT_SHOT;
	count(reason, packet->hook, ctx->len);
	if (reason != DROP_UNKNOWN_ICMP_TYPE || !is_autoconfiguration(packet))
		report(ctx, packet, findings ? findings : &NO_FINDINGS, EVENT_DROP, reason);
	return TC_ACT_SHOT;
}

/* Drop a packet that is of a flow, and tell a pod whose packet is too big for the tunnel so;
 * returns a TC action. */
static __always_inline int drop_of_flow(struct __sk_buff *ctx, const struct packet *packet,
					const struct findings *findings, int verdict)
{
	int action = drop(ctx, packet, findings, verdict);

	if (verdict == -DROP_TOO_BIG && packet->hook == HOOK_FROM_POD)
		return answer_too_big(ctx, packet);
	return action;
}
