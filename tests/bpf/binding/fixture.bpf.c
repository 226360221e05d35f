/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Objects of the binding's tests: a map of each kind, and programs that show what they see. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile __u32 answer = 7;
const volatile __be16 port = 0;
const volatile __u8 mac[6] = {};

struct pair {
	__u64 packets;
	__u64 bytes;
};

struct trie_key {
	__u32 prefixlen;
	__u8 byte[4];
};

struct record {
	__u64 number;
	__u64 time_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 100);
	__type(key, __u32);
	__type(value, __u32);
} test_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 100);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct trie_key);
	__type(value, __u32);
} test_trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} test_words SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct pair);
} test_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} test_ring SEC(".maps");

static __noinline void count(struct __sk_buff *skb, __u32 at)
{
	struct pair *pair = bpf_map_lookup_elem(&test_counts, &at);

	if (pair) {
		pair->packets++;
		pair->bytes += skb->len;
	}
}

/* Gives the constant. */
SEC("tc")
int give_answer(struct __sk_buff *skb)
{
	count(skb, 0);
	return (int)answer;
}

SEC("tc")
int give_port(struct __sk_buff *skb)
{
	(void)skb;
	return port;
}

SEC("tc")
int give_mac(struct __sk_buff *skb)
{
	(void)skb;
	return mac[5];
}

/* Gives what stands in element 3. */
SEC("tc")
int give_word(struct __sk_buff *skb)
{
	const __u32 at = 3;
	__u64 *word = bpf_map_lookup_elem(&test_words, &at);

	(void)skb;
	return word ? (int)*word : -1;
}

SEC("tc")
int give_context(struct __sk_buff *skb)
{
	return (int)(skb->mark + skb->ifindex * 1000 + skb->cb[0] * 100000);
}

/* Reports a record with the packet's mark; of another size where it is 13, none where it is 14. */
SEC("tc")
int report(struct __sk_buff *skb)
{
	struct record *record;

	if (skb->mark == 13) {
		const __u32 odd = 0;

		return (int)bpf_ringbuf_output(&test_ring, (void *)&odd, sizeof(odd), 0);
	}
	record = bpf_ringbuf_reserve(&test_ring, sizeof(*record), 0);
	if (!record)
		return 1;
	if (skb->mark == 14) {
		bpf_ringbuf_discard(record, 0);
		return 0;
	}
	record->number = skb->mark;
	record->time_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("tc")
int pass_old(struct __sk_buff *skb)
{
	count(skb, 1);
	return TC_ACT_OK;
}

SEC("tc")
int pass_new(struct __sk_buff *skb)
{
	count(skb, 2);
	return TC_ACT_OK;
}

SEC("xdp")
int shorten(struct xdp_md *xdp)
{
	return bpf_xdp_adjust_head(xdp, 4) ? XDP_ABORTED : XDP_PASS;
}
