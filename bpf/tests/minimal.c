// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The limit of bench.datapath: no data plane that knows flows does with less. */
#include "minimal.h"

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int minimal(struct __sk_buff *ctx)
{
	struct ends ends;

	return read_ends(ctx, &ends) ? forward_between(&ends) : TC_ACT_UNSPEC;
}
