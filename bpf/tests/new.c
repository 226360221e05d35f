// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The data plane with one program more, that takes each packet for the first of another flow: for bench.datapath. */
#include "cilia.c"

__u16 next_port = 0;

SEC("tc")
int first_from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};

	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	packet.source_port = next_port++;
	return pass(ctx, &packet, ctx->ifindex);
}
