"""Features of the kernel that the data plane needs, probed before anything is loaded."""

import os
from itertools import takewhile
from pathlib import Path

from cilia.datapath.descriptor import checked, lib
from cilia.datapath.errors import describe

BPFFS = Path("/sys/fs/bpf")
BTF = Path("/sys/kernel/btf/vmlinux")
KERNEL_CONTEXT = (6, 2)
"""First kernel with the functions by which programs read its packet buffer."""


def is_bpffs(path: Path) -> bool:
    """Tell whether a BPF file system is mounted at ``path``."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    kinds = [kind for _, target, kind, *_ in mounts if target == str(path)]
    return bool(kinds) and kinds[-1] == "bpf"  # the last mount covers the others


def ensure_bpffs(path: Path = BPFFS) -> None:
    """Mount a BPF file system at ``path`` unless one is there.

    Raises:
        KernelError: EPERM without CAP_SYS_ADMIN.
    """
    if is_bpffs(path):
        return
    path.mkdir(parents=True, exist_ok=True)
    checked(lib.cilia_mount_bpffs(bytes(path)), f"mount a BPF file system at {path}")


def has_tcx() -> bool:
    """Tell whether programs can be attached by TCX links (Linux 6.6) rather than clsact filters."""
    return int(lib.cilia_probe_tcx()) == 0


def kernel_version() -> tuple[int, int]:
    """Return the running kernel's version, such as (6, 12)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(takewhile(str.isdigit, minor)))


def reads_kernel_context(kernel: tuple[int, int] | None = None, btf: Path = BTF) -> bool:
    """Tell whether programs may read the kernel's own packet buffer (``bpf_cast_to_kern_ctx``)."""
    return (kernel or kernel_version()) >= KERNEL_CONTEXT and btf.exists()


def missing_features(bpffs: Path = BPFFS) -> tuple[str, ...]:
    """Return the features that this kernel lacks, a sentence each."""
    missing = []
    if not BTF.exists():
        missing.append(f"BTF: no {BTF} (CONFIG_DEBUG_INFO_BTF)")
    if not is_bpffs(bpffs):
        missing.append(f"BPF file system: none at {bpffs}")
    for feature, probe in (
        ("ring buffer (Linux 5.8)", lib.cilia_probe_ringbuf),
        ("TCX links (Linux 6.6)", lib.cilia_probe_tcx),
    ):
        result = probe()
        if result < 0:
            missing.append(f"{feature}: {describe(-result)}")
    return tuple(missing)
