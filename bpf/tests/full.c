// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The data plane with flows in a map that evicts nothing, for tests: a full LRU map finds room, but
 * for the moments in which other CPUs hold what it would evict. */
#include <linux/bpf.h>

#define BPF_MAP_TYPE_LRU_HASH BPF_MAP_TYPE_HASH
#include "cilia.c"
