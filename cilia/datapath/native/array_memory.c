/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a map that programs read at the same time.
 *
 * A store releases: a program that sees the word also sees every map element written before it,
 * since bpf(2) and the lookup order their accesses, and the word is written after the call has
 * returned.
 */
#include <sys/mman.h>

#include "native.h"

void *cilia_map_memory(int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void cilia_unmap_memory(void *memory, size_t size)
{
	munmap(memory, size);
}

uint32_t cilia_load_u32(const void *word)
{
	return __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}

uint64_t cilia_load_u64(const void *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE);
}

void cilia_store_u32(void *word, uint32_t value)
{
	__atomic_store_n((uint32_t *)word, value, __ATOMIC_RELEASE);
}

void cilia_store_u64(void *word, uint64_t value)
{
	__atomic_store_n((uint64_t *)word, value, __ATOMIC_RELEASE);
}

uint32_t cilia_add_u32(void *word, uint32_t value)
{
	return __atomic_add_fetch((uint32_t *)word, value, __ATOMIC_ACQ_REL);
}

void cilia_add_each_u32(void *first, size_t stride, size_t count, uint32_t value)
{
	for (size_t i = 0; i < count; i++)
		cilia_add_u32((char *)first + i * stride, value);
}
