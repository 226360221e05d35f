// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The least that forwards a known flow: parse, look one LRU entry up, redirect. The limit of bench.datapath. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/conntrack.h"
#include "lib/parse.h"

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int minimal(struct __sk_buff *ctx)
{
	const struct ct_entry *entry;
	struct packet packet = {};
	union ct_key key;
	__u32 from;

	if (parse(ctx, &packet))
		return TC_ACT_SHOT;
	from = ct_key_of(&packet, &key);
	entry = find_flow(&packet, &key);
	if (!entry)
		return TC_ACT_SHOT;
	return bpf_redirect_peer(from ? entry->side[1].ifindex : entry->side[0].ifindex, 0);
}
