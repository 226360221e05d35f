// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The data plane with programs that take a packet for one of another flow, for bench.datapath: for
 * the first of a flow of its own, or for one of 100,000 flows in random order, which no cache
 * holds. */
#include "cilia.c"

#include "minimal.h"

#define FLOWS 100000

__u32 next_flow = 0;

/* MAC address of pod A in the tests: a run that is repeated finds the packet as it was delivered,
 * with the gateway's. */
const __u8 sender_mac[6] = {0x02, 0xaa, 0, 0, 0, 0x01};

static __always_inline void restore_sender(struct __sk_buff *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return;
	for (int i = 0; i < ETH_ALEN; i++)
		ethernet->h_source[i] = sender_mac[i];
}

/* More flows than a port has values: they go to two ports of the server. */
static __always_inline void take_for(struct packet *packet, __u32 flow)
{
	packet->source_port = flow;
	if (flow >> 16)
		packet->destination_port += bpf_htons(1);
}

SEC("tc")
int first_from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};

	restore_sender(ctx);
	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	take_for(&packet, next_flow++ % FLOWS);
	return pass(ctx, &packet, ctx->ifindex);
}

SEC("tc")
int random_from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};

	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	take_for(&packet, bpf_get_prandom_u32() % FLOWS);
	return pass(ctx, &packet, ctx->ifindex);
}

/* The minimal program likewise. */
SEC("tc")
int random_minimal(struct __sk_buff *ctx)
{
	__u32 flow = bpf_get_prandom_u32() % FLOWS;
	struct ends ends;

	if (!read_ends(ctx, &ends))
		return TC_ACT_SHOT;
	ends.source_port = flow;
	if (flow >> 16)
		ends.destination_port += bpf_htons(1);
	return forward_between(&ends);
}
