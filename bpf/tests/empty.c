// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* What a run costs that does nothing: the floor of every figure of bench.datapath. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int empty(struct __sk_buff *ctx)
{
	(void)ctx;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
