// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The least that any data plane with a memory does for a packet: parse it, look its flow up, redirect it. No policy, no
 * accounting, no rewrite. bench.datapath measures ours beside it in the same run. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct minimal_flow {
	__be32 source;
	__be32 destination;
	__be16 port[2];
	__u8 protocol;
	__u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct minimal_flow);
	__type(value, __u32); /* device */
} minimal_flows SEC(".maps");

struct headers {
	struct ethhdr ethernet;
	struct iphdr ip;
	__be16 port[2];
} __attribute__((packed));

SEC("tc")
int minimal(struct __sk_buff *ctx)
{
	const struct headers *headers = (void *)(long)ctx->data;
	struct minimal_flow flow = {};
	const __u32 *ifindex;

	if ((void *)(headers + 1) > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	if (headers->ethernet.h_proto != bpf_htons(ETH_P_IP) || headers->ip.ihl != 5)
		return TC_ACT_SHOT;
	if (headers->ip.protocol != IPPROTO_TCP && headers->ip.protocol != IPPROTO_UDP)
		return TC_ACT_SHOT;
	flow.source = headers->ip.saddr;
	flow.destination = headers->ip.daddr;
	flow.port[0] = headers->port[0];
	flow.port[1] = headers->port[1];
	flow.protocol = headers->ip.protocol;
	ifindex = bpf_map_lookup_elem(&minimal_flows, &flow);
	return ifindex ? bpf_redirect_peer(*ifindex, 0) : TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
