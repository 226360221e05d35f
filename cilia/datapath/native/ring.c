/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded consumer of a BPF ring buffer (kernel/bpf/ringbuf.c).
 *
 * Page 0 holds the consumer's position, page 1 the producer's, then the data, mapped twice in a row
 * so that a record is never torn. A record: u32 length with two flags, u32 page offset, the data,
 * padded to 8 bytes. Programs reserve in order and commit in any; the drain stops at the first
 * record still being written.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native.h"

#define HEADER 8

struct cilia_ring {
	unsigned long *consumer;
	unsigned long *producer;
	const char *data;
	size_t page;
	uint32_t size;
};

struct cilia_ring *cilia_ring_open(int fd, uint32_t size)
{
	struct cilia_ring *ring = calloc(1, sizeof(*ring));

	if (!ring)
		return NULL;
	ring->page = (size_t)sysconf(_SC_PAGESIZE);
	ring->size = size;
	ring->consumer = mmap(NULL, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring->consumer == MAP_FAILED)
		goto free_ring;
	ring->producer = mmap(NULL, ring->page + 2 * (size_t)size, PROT_READ, MAP_SHARED, fd, (off_t)ring->page);
	if (ring->producer == MAP_FAILED)
		goto unmap_consumer;
	ring->data = (const char *)ring->producer + ring->page;
	return ring;

unmap_consumer:
	munmap(ring->consumer, ring->page);
free_ring:
	free(ring);
	return NULL;
}

void cilia_ring_close(struct cilia_ring *ring)
{
	munmap(ring->producer, ring->page + 2 * (size_t)ring->size);
	munmap(ring->consumer, ring->page);
	free(ring);
}

void cilia_ring_drain(struct cilia_ring *ring, void *out, uint32_t record_size, uint32_t limit,
		      struct cilia_drained *drained)
{
	unsigned long position = *ring->consumer;
	const unsigned long produced = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	char *to = out;

	memset(drained, 0, sizeof(*drained));
	for (uint32_t seen = 0; position < produced && seen < limit; seen++) {
		const char *record = ring->data + (position & (ring->size - 1));
		const uint32_t header = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
		const uint32_t length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (header & BPF_RINGBUF_BUSY_BIT)
			break;
		if (header & BPF_RINGBUF_DISCARD_BIT) {
			drained->discarded++;
		} else if (length != record_size) {
			drained->misfits++;
		} else {
			memcpy(to, record + HEADER, length);
			to += length;
			drained->records++;
		}
		position += (length + HEADER + 7UL) & ~7UL;
		/* Given back one by one, so that programs find room while a long drain goes on. */
		__atomic_store_n(ring->consumer, position, __ATOMIC_RELEASE);
	}
	drained->backlog = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE) - position;
}
