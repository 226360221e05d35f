/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

#include <linux/types.h>

/* An address of either family; IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct address {
	__u8 byte[16];
} __attribute__((aligned(4)));

_Static_assert(sizeof(struct address) == 16, "address");
