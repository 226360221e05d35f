/* SPDX-License-Identifier: Apache-2.0 */
/* bpf(2) where its structures are newer than the headers or too wide for Python, and two calls
 * around it. */
#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native.h"

#define LINK_TYPE_XDP 6
#define LINK_TYPE_TCX 11 /* Linux 6.6; not in the headers of 6.1 */
#define ATTACH_TCX_INGRESS 46

int cilia_map_info(int fd, struct cilia_map_info *out)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	const int failed = bpf_obj_get_info_by_fd(fd, &info, &size);

	if (failed)
		return failed;
	out->id = info.id;
	out->type = info.type;
	out->key_size = info.key_size;
	out->value_size = info.value_size;
	out->max_entries = info.max_entries;
	out->flags = info.map_flags;
	out->btf_id = info.btf_id;
	out->key_type = info.btf_key_type_id;
	out->value_type = info.btf_value_type_id;
	memcpy(out->name, info.name, sizeof(out->name));
	return 0;
}

int cilia_program_info(int fd, struct cilia_program_info *out)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	const int failed = bpf_obj_get_info_by_fd(fd, &info, &size);

	if (failed)
		return failed;
	out->id = info.id;
	out->instructions = info.xlated_prog_len / sizeof(struct bpf_insn);
	out->verified_instructions = info.verified_insns;
	out->jited_bytes = info.jited_prog_len;
	return 0;
}

int cilia_link_create(int program, int target, int attach_type, uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = flags);

	return bpf_link_create(program, target, (enum bpf_attach_type)attach_type, &options);
}

int cilia_link_info(int fd, struct cilia_link_info *out)
{
	struct bpf_link_info info = {};
	__u32 size = sizeof(info);
	const int failed = bpf_obj_get_info_by_fd(fd, &info, &size);

	if (failed)
		return failed;
	out->id = info.id;
	out->type = info.type;
	out->program_id = info.prog_id;
	/* struct { __u32 ifindex; __u32 attach_type; } tcx lies where xdp.ifindex does. */
	out->ifindex = info.type == LINK_TYPE_XDP || info.type == LINK_TYPE_TCX ? info.xdp.ifindex : 0;
	return 0;
}

int cilia_test_run(int fd, struct cilia_test_run *run)
{
	LIBBPF_OPTS(bpf_test_run_opts, options,
		.data_in = run->packet,
		.data_size_in = run->packet_size,
		.data_out = run->packet_out,
		.data_size_out = run->packet_out_size,
		.ctx_in = run->context,
		.ctx_size_in = run->context_size,
		.ctx_out = run->context_out,
		.ctx_size_out = run->context_out_size,
		.repeat = (int)run->repeat,
	);
	const int failed = bpf_prog_test_run_opts(fd, &options);

	run->packet_out_size = options.data_size_out;
	run->context_out_size = options.ctx_size_out;
	run->retval = options.retval;
	run->duration_ns = options.duration;
	return failed;
}

int cilia_update_batch(int fd, const void *keys, const void *values, uint32_t *count)
{
	return bpf_map_update_batch(fd, keys, values, count, NULL);
}

int cilia_delete_batch(int fd, const void *keys, uint32_t *count)
{
	return bpf_map_delete_batch(fd, keys, count, NULL);
}

int cilia_lookup_batch(int fd, const void *after, void *cursor, void *keys, void *values, uint32_t *count)
{
	return bpf_map_lookup_batch(fd, (void *)after, cursor, keys, values, count, NULL);
}

int cilia_synchronize_rcu(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0 ? -errno : 0;
}

int cilia_mount_bpffs(const char *path)
{
	return mount("bpf", path, "bpf", 0, NULL) < 0 ? -errno : 0;
}

/* A kernel with TCX misses the device, one without it refuses the attach type. */
int cilia_probe_tcx(void)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const int program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe_tcx", "GPL", nothing, 2, NULL);
	int link;

	if (program < 0)
		return program;
	link = cilia_link_create(program, 0x7fffffff, ATTACH_TCX_INGRESS, 0);
	close(program);
	if (link >= 0)
		close(link);
	return link == -ENODEV || link >= 0 ? 0 : link;
}

int cilia_probe_ringbuf(void)
{
	const int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "probe_ringbuf", 0, 0, (__u32)sysconf(_SC_PAGESIZE), NULL);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}
