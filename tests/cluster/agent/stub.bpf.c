/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The least data plane that the agent's tests need: every map, and between local pods only what is realised. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>

#include "maps/address.h"
#include "maps/conntrack.h"
#include "maps/endpoint.h"
#include "maps/event.h"
#include "maps/ipcache.h"
#include "maps/metrics.h"
#include "maps/policy.h"
const volatile __be32 node_ipv4 = 0;
const volatile __u32 overlay_ifindex = 0;
static __always_inline int touch(void)
{
	__u32 zero = 0;
	__u32 *e = bpf_map_lookup_elem(&cilia_epoch, &zero);
	struct subject *s = bpf_map_lookup_elem(&cilia_subjects, &zero);
	__u32 *a = bpf_map_lookup_elem(&cilia_addresses, &zero);
	struct metric *m = bpf_map_lookup_elem(&cilia_metrics, &zero);
	struct policy_key pk = {};
	struct policy_entry *p = bpf_map_lookup_elem(&cilia_policy, &pk);
	struct ct_key ck = {};
	struct ct_entry *c = bpf_map_lookup_elem(&cilia_ct4, &ck);
	struct ipcache_key ik = {.prefixlen = 128};
	struct ipcache_entry *i = bpf_map_lookup_elem(&cilia_ipcache, &ik);
	return (e != 0) + (s != 0) + (a != 0) + (m != 0) + (p != 0) + (c != 0) + (i != 0) + node_ipv4 + overlay_ifindex;
}
static __always_inline void report(const struct iphdr *ip, const struct endpoint *to)
{
	struct event *event = bpf_ringbuf_reserve(&cilia_events, sizeof(*event), 0);

	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->kind = to ? EVENT_VERDICT : EVENT_DROP;
	event->family = 4;
	event->protocol = ip->protocol;
	event->time_ns = bpf_ktime_get_ns();
	event->source.byte[10] = event->source.byte[11] = 0xff;
	event->destination.byte[10] = event->destination.byte[11] = 0xff;
	__builtin_memcpy(&event->source.byte[12], &ip->saddr, 4);
	__builtin_memcpy(&event->destination.byte[12], &ip->daddr, 4);
	bpf_ringbuf_submit(event, 0);
}

static __always_inline bool realised(__u32 slot)
{
	struct subject *subject = bpf_map_lookup_elem(&cilia_subjects, &slot);

	return slot && subject && subject->current.revision && subject->current.shapes;
}

SEC("tc") int from_pod(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	if ((void *)(ip + 1) > end || eth->h_proto != __builtin_bswap16(ETH_P_IP))
		return TC_ACT_SHOT;
	struct endpoint_key key = {};
	key.address.byte[10] = key.address.byte[11] = 0xff;
	__builtin_memcpy(&key.address.byte[12], &ip->daddr, 4);
	struct endpoint *to = bpf_map_lookup_elem(&cilia_endpoints, &key);
	report(ip, to);
	if (!to || !realised(to->subject))
		return TC_ACT_SHOT;
	__builtin_memcpy(eth->h_dest, to->mac, 6);
	return bpf_redirect_peer(to->ifindex, 0);
}
SEC("tc") int to_pod(struct __sk_buff *skb __attribute__((unused)))
{
	return touch() == 77 ? TC_ACT_SHOT : TC_ACT_OK;
}
SEC("tc") int from_overlay(struct __sk_buff *skb __attribute__((unused)))
{
	return TC_ACT_OK;
}
char _license[] SEC("license") = "Dual BSD/GPL";
