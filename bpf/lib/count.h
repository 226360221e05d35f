/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting what became of packets. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/metrics.h"

static __always_inline void count(__u32 outcome, __u32 hook, __u32 bytes)
{
	__u32 index = outcome * HOOKS + hook;
	struct metric *metric = bpf_map_lookup_elem(&cilia_metrics, &index);

	if (!metric)
		return;
	metric->packets++;
	metric->bytes += bytes;
}
