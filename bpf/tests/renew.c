// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Makes every run of a program the first packet of a flow: the source port is counted up, then the program called.
 * After 65,536 runs the ports come round again. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} renewed SEC(".maps");

static __u16 last_port; /* one CPU runs this */

SEC("tc")
int renew(struct __sk_buff *ctx)
{
	__be16 *port = (void *)(long)ctx->data + ETH_HLEN + sizeof(struct iphdr);

	if ((void *)(port + 1) > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	*port = bpf_htons(++last_port);
	bpf_tail_call(ctx, &renewed, 0);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
