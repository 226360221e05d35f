// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Program that does nothing: its cost is the floor of bench.datapath. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int empty(struct __sk_buff *ctx)
{
	(void)ctx;
	return TC_ACT_OK;
}
