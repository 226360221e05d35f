"""Proof that bcc can't be the loader: features that it can't compile, and its cost for a node.

``python -m tools.proofs.bcc``. bcc exists as a distribution's package only, outside virtual
environments, so it runs in the system's interpreter, one child per attempt: a fatal error in LLVM
ends the process.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"

MEASURE = """
import time; start = time.perf_counter()
{load}
rss = next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]
print(f"{{(time.perf_counter() - start) * 1e3:.0f}} ms, RSS {{int(rss) / 1024:.0f}} MiB")
"""

COMPILE = """
import os, sys
from bcc import BPF
program = BPF(text=sys.stdin.read(), cflags=["-Wno-macro-redefined"])
program.load_func("run", BPF.SCHED_CLS)
"""

HEAD = "#include <uapi/linux/bpf.h>\nBPF_ARRAY(words, u32, 4);\n"

FEATURES = {
    "a plain program (must pass)": HEAD + "int run(struct __sk_buff *skb) { return 0; }",
    "const volatile configuration": HEAD
    + "const volatile u32 answer = 7;\nint run(struct __sk_buff *skb) { return answer; }",
    "a global variable": HEAD + "static u32 seen;\nint run(struct __sk_buff *skb) { return seen++; }",
    "a subprogram": HEAD
    + "static __attribute__((noinline)) int sub(struct __sk_buff *skb) { return skb->len; }\n"
    + "int run(struct __sk_buff *skb) { return sub(skb) + sub(skb); }",
    "a callback (bpf_loop)": HEAD
    + "static int each(u32 i, void *context) { return 0; }\n"
    + "int run(struct __sk_buff *skb) { return bpf_loop(4, each, 0, 0); }",
    "bpf_redirect_neigh with its four arguments": HEAD
    + "int run(struct __sk_buff *skb) { return bpf_redirect_neigh(1, 0, 0, 0); }",
}

TELLING = ("error:", "ERROR", "LLVM", "invalid", "expected=", "unknown", "Exception:")
"""Words of lines that name an error."""
LONGEST = 120
"""Characters of an error that are shown."""

CONFIG_HEADER = """#define __LINUX_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#include <asm/types.h>
typedef __s8 s8; typedef __u8 u8; typedef __s16 s16; typedef __u16 u16;
typedef __s32 s32; typedef __u32 u32; typedef __s64 s64; typedef __u64 u64;
typedef __SIZE_TYPE__ size_t; typedef __UINTPTR_TYPE__ uintptr_t;
"""


def make_headers(directory: Path) -> None:
    """Lay out user-space headers as bcc wants a kernel's, for machines without those."""
    for stub, text in {
        "include/linux/kconfig.h": CONFIG_HEADER,
        "include/linux/log2.h": "",
        "include/asm/page.h": "#define PAGE_SIZE 4096\n",
        "include/uapi/linux/bpf.h": "",
    }.items():
        path = directory / stub
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    multiarch = subprocess.run(["cc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    (directory / "include/linux/byteorder").symlink_to("/usr/include/linux/byteorder")
    for name in Path("/usr/include/linux").glob("*.h"):
        for place in ("include/linux", "include/uapi/linux"):
            copy = directory / place / name.name
            if not copy.exists() and name.name != "bpf.h":
                copy.symlink_to(name)
    for source in (Path("/usr/include") / multiarch / "asm", Path("/usr/include/asm-generic")):
        for name in source.glob("*.h"):
            copy = directory / "include" / source.name / name.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists():
                copy.symlink_to(name)


def attempt(text: str, headers: Path) -> str:
    """Compile and load ``text`` in a child; return "ok", or why it failed."""
    ran = subprocess.run(
        [SYSTEM_PYTHON, "-W", "ignore", "-c", COMPILE],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={"BCC_KERNEL_SOURCE": str(headers), "PATH": "/usr/bin:/bin"},
    )
    return outcome(ran.returncode, ran.stderr)


def outcome(returncode: int, stderr: str) -> str:
    """Return "ok", or how a child ended with the first line that names an error."""
    if returncode == 0:
        return "ok"
    how = f"the process dies of signal {-returncode}: " if returncode < 0 else "refused: "
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in TELLING)]
    return how + (telling or lines or ["no message"])[0][:LONGEST]


def measure(python: str, load: str) -> str:
    """Return time and memory that an import takes in a fresh interpreter."""
    ran = subprocess.run(
        [python, "-W", "ignore", "-c", MEASURE.format(load=load)], capture_output=True, text=True, check=False
    )
    return ran.stdout.strip() or f"failed: {ran.stderr.strip().splitlines()[-1]}"


def main() -> int:
    present = subprocess.run([SYSTEM_PYTHON, "-W", "ignore", "-c", "import bcc"], capture_output=True, check=False)
    if present.returncode:
        print("bcc isn't installed: apt-get install python3-bpfcc (the bcc of PyPI is another thing)")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        headers = Path(scratch)
        make_headers(headers)
        for feature, text in FEATURES.items():
            print(f"bcc: {feature}: {attempt(text, headers)}")
    print("bcc: TCX: no call for it (BPF.attach_* knows neither attach type 46 nor 47)")
    print(f"bcc: import: {measure(SYSTEM_PYTHON, 'import bcc')}")
    print(f"ours: import: {measure(sys.executable, 'import cilia.datapath.objects, cilia.datapath.links')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
