/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Coarse clock: the kernel's jiffies, `ticks_per_second` of them, which wrap in 49 days or more. To
 * read them is a load; bpf_ktime_get_coarse_ns() costs every packet 16 ns more. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __always_inline __u32 coarse_now(void)
{
	return bpf_jiffies64();
}
