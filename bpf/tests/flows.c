// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The data plane with programs that take a packet for one of another flow, for bench.datapath: for the first of a flow
 * of its own, or for one of 65,536 flows in random order, which no cache holds. */
#include "cilia.c"

__u16 next_port = 0;

/* Of pod A in the tests: a run that is repeated finds the packet as it was delivered, with the gateway's. */
const __u8 sender_mac[6] = {0x02, 0xaa, 0, 0, 0, 0x01};

static __always_inline void restore_sender(struct __sk_buff *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return;
	for (int i = 0; i < ETH_ALEN; i++)
		ethernet->h_source[i] = sender_mac[i];
}

SEC("tc")
int first_from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};

	restore_sender(ctx);
	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	packet.source_port = next_port++;
	return pass(ctx, &packet, ctx->ifindex);
}

SEC("tc")
int random_from_pod(struct __sk_buff *ctx)
{
	struct packet packet = {.hook = HOOK_FROM_POD};

	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	packet.source_port = bpf_get_prandom_u32();
	return pass(ctx, &packet, ctx->ifindex);
}

/* The minimal program likewise. */
SEC("tc")
int random_minimal(struct __sk_buff *ctx)
{
	const struct ct_entry *entry;
	struct packet packet = {};
	union ct_key key;
	__u32 from;

	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	packet.source_port = bpf_get_prandom_u32();
	from = ct_key_of(&packet, &key);
	entry = find_flow(&packet, &key);
	if (!entry)
		return TC_ACT_SHOT;
	return bpf_redirect_peer(from ? entry->side[1].ifindex : entry->side[0].ifindex, 0);
}
