/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Parsing cursor: the offset of the next header, and where the packet ends.
 *
 * Offsets rather than pointers, since bpf_skb_pull_data() and everything else that moves a packet's
 * bytes makes pointers into it void.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct cursor {
	__u32 offset; /* next header's, from the frame's first byte */
	__u32 end;    /* packet's: no header is read across it */
};

/* End of a frame, which is known anyway; the compiler leaves the check out. */
#define FRAME_END (~0U)

/* Most bytes that the length of an IP packet can tell. */
#define LONGEST_PACKET 0xffff

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

/* Tell whether a packet is BIG TCP: offloaded, and longer than its IP header, at the cursor, can
 * tell; it tells nothing then. */
static __always_inline bool is_big(struct __sk_buff *ctx, const struct cursor *cursor)
{
	return ctx->gso_size && ctx->len > cursor->offset + LONGEST_PACKET;
}

/* End the packet, whose IP header is at the cursor, where that says: `bytes` behind the header's
 * beginning. What the frame has behind it is never read. False if the frame ends before; but of
 * what an error quotes (`is_quoted`) the rest may be missing. */
static __always_inline bool end_packet(struct __sk_buff *ctx, struct cursor *cursor, __u32 bytes,
				       bool is_quoted)
{
	__u32 end = cursor->offset + bytes;

	if (is_quoted) {
		if (end < cursor->end)
			cursor->end = end;
		return true;
	}
	cursor->end = end;
	return end <= ctx->len;
}

/* Have the frame's first bytes where they can be read: `most`, or all that there are, unless
 * `least` are there. A few senders (AF_PACKET with pages) keep them elsewhere. */
static __always_inline void pull(struct __sk_buff *ctx, __u32 least, __u32 most)
{
	if ((void *)(long)ctx->data + least > (void *)(long)ctx->data_end)
		bpf_skb_pull_data(ctx, ctx->len < most ? ctx->len : most);
}
