/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reads a packet without a bound check, which the verifier refuses. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int read_unchecked(struct __sk_buff *skb)
{
	return *(__u8 *)(long)skb->data;
}
