/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of libbpf, kept for the error, and read-only variables by name. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

/* Newest messages of this thread. A verifier's log can be megabytes; its end names the offence. */
static __thread char messages[32768];
static __thread size_t used;

static void keep(const char *text, size_t length)
{
	const size_t room = sizeof(messages) - 1;

	if (length > room) {
		text += length - room;
		length = room;
	}
	if (used + length > room) {
		const size_t drop = used + length - room;

		memmove(messages, messages + drop, used - drop);
		used -= drop;
	}
	memcpy(messages + used, text, length);
	used += length;
	messages[used] = '\0';
}

static int record(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char *text;
	int length;

	if (level != LIBBPF_WARN)
		return 0;
	length = vasprintf(&text, format, arguments);
	if (length < 0)
		return 0;
	keep(text, (size_t)length);
	free(text);
	return length;
}

void cilia_log_clear(void)
{
	libbpf_set_print(record);
	used = 0;
	messages[0] = '\0';
}

const char *cilia_log(void)
{
	return messages;
}

static bool is_read_only(const struct bpf_map *map)
{
	const char *section = strchr(bpf_map__name(map), '.');

	return bpf_map__is_internal(map) && section && strncmp(section, ".rodata", 7) == 0;
}

static void describe(const struct btf *btf, __u32 type_id, struct cilia_variable *variable)
{
	const struct btf_type *type = btf__type_by_id(btf, type_id);

	while (btf_is_mod(type) || btf_is_typedef(type)) {
		if (btf_is_typedef(type) && strncmp(btf__name_by_offset(btf, type->name_off), "__be", 4) == 0)
			variable->is_network_order = true;
		type = btf__type_by_id(btf, type->type);
	}
	variable->is_signed = btf_is_int(type) && (btf_int_encoding(type) & BTF_INT_SIGNED);
}

/* Give variable `index` of the map's section, or NULL past the last. */
static const struct btf_var_secinfo *variable_at(const struct btf *btf, const struct bpf_map *map, int index,
						 const char **name)
{
	const struct btf_type *section = btf__type_by_id(btf, bpf_map__btf_value_type_id(map));
	const struct btf_var_secinfo *place;

	if (!section || !btf_is_datasec(section) || index >= btf_vlen(section))
		return NULL;
	place = btf_var_secinfos(section) + index;
	*name = btf__name_by_offset(btf, btf__type_by_id(btf, place->type)->name_off);
	return place;
}

int cilia_find_variable(struct bpf_object *object, const char *wanted, struct cilia_variable *variable)
{
	const struct btf *btf = bpf_object__btf(object);
	const struct btf_var_secinfo *place;
	struct bpf_map *map;
	const char *name;
	size_t size;

	if (!btf)
		return -ENODATA;
	bpf_object__for_each_map(map, object) {
		if (!is_read_only(map))
			continue;
		for (int i = 0; (place = variable_at(btf, map, i, &name)); i++) {
			if (strcmp(name, wanted) != 0)
				continue;
			memset(variable, 0, sizeof(*variable));
			variable->data = (char *)bpf_map__initial_value(map, &size) + place->offset;
			variable->size = place->size;
			describe(btf, btf__type_by_id(btf, place->type)->type, variable);
			return 0;
		}
	}
	return -ENOENT;
}

const char *cilia_variable_name(struct bpf_object *object, int index)
{
	const struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map;
	const char *name;

	if (!btf)
		return NULL;
	bpf_object__for_each_map(map, object) {
		if (!is_read_only(map))
			continue;
		for (int i = 0; variable_at(btf, map, i, &name); i++)
			if (index-- == 0)
				return name;
	}
	return NULL;
}
