/* SPDX-License-Identifier: Apache-2.0 */
/* Digest of map elements: the sum of their hashes. Order is without meaning, and whoever knows the
 * element that comes or goes adds or subtracts its hash. It tells accidents and meddling, not
 * forgery: the hash has no key.
 */
#include "native.h"

static uint64_t hash_bytes(uint64_t hash, const unsigned char *data, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * 0x100000001b3; /* FNV-1a */
	return hash;
}

/* MurmurHash3's last step: sums of FNV's own values would keep its structure. */
static uint64_t finish(uint64_t hash)
{
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
	return hash ^ hash >> 33;
}

uint64_t cilia_digest(const void *keys, uint32_t key_size, const void *values, uint32_t value_size, uint32_t count)
{
	const unsigned char *key = keys, *value = values;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < count; i++) {
		const uint64_t hash = hash_bytes(0xcbf29ce484222325, key + (size_t)i * key_size, key_size);

		sum += finish(hash_bytes(hash, value + (size_t)i * value_size, value_size));
	}
	return sum;
}
