"""Compile what isn't Python: the programs of the data plane and the binding over libbpf.

``python tools/build.py`` builds what is older than its sources; ``CustomBuildHook`` does the same
for wheels. Nodes need neither compiler nor headers.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cffi import FFI
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
NATIVE = Path("cilia/datapath/native")
OBJECTS = Path("cilia/datapath/objects")
EXTENSION = "cilia.datapath._libbpf"

CLANG_FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror")
CC_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-missing-field-initializers")


def is_stale(target: Path, sources: Iterable[Path]) -> bool:
    """Tell whether ``target`` is missing or older than any of ``sources``."""
    if not target.exists():
        return True
    built = target.stat().st_mtime_ns
    return any(source.stat().st_mtime_ns > built for source in sources)


def include_flags(root: Path) -> list[str]:
    """Return include paths: ours, and Debian's of asm/, which clang omits for ``-target bpf``."""
    cc = shutil.which("cc") or shutil.which("gcc")
    multiarch = subprocess.run([cc, "-print-multiarch"], capture_output=True, text=True, check=True) if cc else None
    asm = f"/usr/include/{multiarch.stdout.strip()}" if multiarch and multiarch.stdout.strip() else None
    return [f"-I{root / 'bpf'}", *([f"-I{asm}"] if asm else [])]


def compile_bpf(source: Path, target: Path, root: Path = ROOT) -> None:
    """Compile one program to an object that carries BTF but no DWARF.

    Raises:
        subprocess.CalledProcessError: The compiler refused it, for a warning too; its words are on
            stderr.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".o.new")
    subprocess.run(["clang", *CLANG_FLAGS, *include_flags(root), "-c", str(source), "-o", str(fresh)], check=True)
    subprocess.run(["llvm-strip", "-g", str(fresh)], check=True)
    fresh.replace(target)  # a reader sees the old object or the new one


def build_objects(root: Path = ROOT, *, force: bool = False) -> list[Path]:
    """Bring cilia/datapath/objects up to date with bpf/*.c; return what was compiled."""
    headers = [*root.glob("bpf/**/*.h"), root / "tools/build.py"]
    built = []
    for source in sorted(root.glob("bpf/*.c")):
        target = root / OBJECTS / source.with_suffix(".o").name
        if force or is_stale(target, [source, *headers]):
            compile_bpf(source, target, root)
            built.append(target)
    return built


def build_extension(root: Path = ROOT, *, force: bool = False) -> list[Path]:
    """Bring the binding up to date with its sources; return what was compiled."""
    native = root / NATIVE
    sources = sorted(native.glob("*.c"))
    target = root / "cilia/datapath/_libbpf.abi3.so"
    if not force and not is_stale(target, [*sources, *native.glob("*.h"), *native.glob("*.cdef")]):
        return []
    ffi = FFI()
    for declarations in ("libbpf.cdef", "cilia.cdef"):
        ffi.cdef((native / declarations).read_text())
    ffi.set_source(
        EXTENSION,
        '#include "native.h"',
        sources=[str(source) for source in sources],
        include_dirs=[str(native)],
        libraries=["bpf"],
        extra_compile_args=list(CC_FLAGS),
        define_macros=[("_GNU_SOURCE", None)],
    )
    with tempfile.TemporaryDirectory() as scratch:
        compiled = Path(ffi.compile(tmpdir=scratch))
        fresh = target.with_suffix(".so.new")
        shutil.copy(compiled, fresh)
        fresh.replace(target)
    return [target]


class CustomBuildHook(BuildHookInterface[Any]):
    """Compiles everything before hatchling gathers the files of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and mark the wheel as bound to this platform; an editable install builds too.

        Local clusters (the package laboratory) are in a wheel only if ``$CILIA_LABORATORY`` is set.
        """
        root = Path(self.root)
        build_objects(root)
        build_extension(root)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if os.environ.get("CILIA_LABORATORY"):
            build_data["force_include"][str(root / "laboratory")] = "laboratory"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--force", action="store_true", help="compile everything, however new it is")
    force: bool = parser.parse_args().force
    try:
        built = [*build_objects(force=force), *build_extension(force=force)]
    except subprocess.CalledProcessError as refused:
        print(f"build: {' '.join(map(str, refused.cmd))}: exit {refused.returncode}", file=sys.stderr)
        return 1
    for path in built:
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
