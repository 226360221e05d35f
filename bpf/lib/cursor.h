/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Parsing cursor: the offset of the next header, and where the packet ends.
 *
 * Offsets rather than pointers, since bpf_skb_pull_data() and everything else that moves a packet's
 * bytes makes pointers into it void.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct cursor {
	__u32 offset; /* of the next header, from the frame's first byte */
	__u32 end;    /* of the packet: no header is read across it */
};

/* End of a packet that ends with its frame, which is known anyway; the compiler leaves the check
 * out. To end packets where their IP headers say, the parsers of IPv4 and IPv6 set `end`. */
#define FRAME_END (~0U)

/* Pointer to the first `bytes` of the frame; NULL if it is shorter or keeps them elsewhere. */
static __always_inline void *frame_bytes(struct __sk_buff *ctx, __u32 bytes)
{
	void *start = (void *)(long)ctx->data;

	__builtin_assume(start != NULL); /* saves a check of it where the caller looks for NULL */
	return start + bytes > (void *)(long)ctx->data_end ? NULL : start;
}

/* Pointer to the `bytes` at the cursor; NULL if the packet ends before they do. */
static __always_inline void *header_at(struct __sk_buff *ctx, const struct cursor *cursor,
				       __u32 bytes)
{
	void *start = (void *)(long)ctx->data + cursor->offset;

	__builtin_assume(start != NULL);
	if (start + bytes > (void *)(long)ctx->data_end || cursor->offset + bytes > cursor->end)
		return NULL;
	return start;
}

/* Have the frame's first bytes where they can be read: `most`, or all that there are, unless
 * `least` are there. A few senders (AF_PACKET with pages) keep them elsewhere. */
static __always_inline void pull(struct __sk_buff *ctx, __u32 least, __u32 most)
{
	if ((void *)(long)ctx->data + least > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, ctx->len < most ? ctx->len : most);
}
