/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets and bytes by outcome and hook, summed over CPUs by the reader.
 *
 * Writers: the programs. Readers: the agent's metrics, `cilia map get`.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum hook {
	HOOK_FROM_POD = 0,
	HOOK_TO_POD = 1,
	HOOK_FROM_OVERLAY = 2,
	HOOK_TO_OVERLAY = 3,
	HOOK_FROM_UPLINK = 4,
	HOOK_TO_UPLINK = 5,
	HOOKS = 8,
};

/* Outcome of a packet, beside enum drop_reason. */
enum outcome {
	FORWARDED = 0,
	LOST_EVENT = 1,    /* no packet's: a report that found no room */
	LIMITED_EVENT = 2, /* likewise: one above the limit */
	AUDITED = 3,       /* decided to drop, and let through by an audit; forwarded, too */
};

struct metric {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries,
	       256 * HOOKS); /* outcome * HOOKS + hook; outcome: enum outcome or drop_reason */
	__type(key, __u32);
	__type(value, struct metric);
} cilia_metrics SEC(".maps");
