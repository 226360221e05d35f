"""Write cilia/abi from the headers of the data plane, through BTF: C is the source of every layout.

``python -m tools.abi`` writes, ``--check`` compares with what is there and exits 1 on a difference.
Needs clang and ruff; nobody else does.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.abi_render import render_defaults, render_enums, render_maps, render_offsets, render_structs
from tools.btf import ObjectBtf
from tools.build import ROOT, compile_bpf

ABI: Final = Path("cilia/abi")
ANCHOR: Final = "anchor_"
SHARED: Final = re.compile(r"^enum \w+ \{|^const volatile ", re.MULTILINE)
"""Headers of bpf/lib that Python shares have enums with names, or configuration."""


def anchor_source(headers: Sequence[Path], root: Path) -> str:
    """Give a C source whose BTF has every named struct and enum of ``headers``: it uses them."""
    lines = [f'#include "{header.relative_to(root / "bpf")}"' for header in headers]
    names = [
        found
        for header in headers
        for found in re.findall(r"^(struct|enum) (\w+) \{", header.read_text(), flags=re.MULTILINE)
    ]
    lines += [f"const volatile {kind} {name} {ANCHOR}{kind}_{name};" for kind, name in sorted(set(names))]
    return "\n".join(lines) + "\n"


def read_btf(root: Path) -> ObjectBtf:
    """Compile the headers of bpf/maps, and the SHARED ones of bpf/lib, and give their types."""
    libraries = [header for header in sorted(root.glob("bpf/lib/*.h")) if SHARED.search(header.read_text())]
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "anchor.c", Path(scratch) / "anchor.o"
        source.write_text(anchor_source([*sorted(root.glob("bpf/maps/*.h")), *libraries], root))
        compile_bpf(source, target, root)
        return ObjectBtf.of(target)


def render(btf: ObjectBtf) -> dict[str, str]:
    """Give file name -> formatted source."""
    sources = {
        "enums.py": render_enums(sorted(btf.enums(), key=lambda enum: enum.name)),
        "structs.py": render_structs(btf.structs()),
        "maps.py": render_maps(btf.maps()),
        "offsets.py": render_offsets(btf.structs()),
        "defaults.py": render_defaults(one for one in btf.variables() if not one.name.startswith(ANCHOR)),
    }
    return {name: _formatted(source) for name, source in sources.items()}


def _formatted(source: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff) if ruff.exists() else "ruff", "format", "--line-length=120", "--isolated", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description="Write cilia/abi from the headers of the data plane.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something would change")
    check: bool = parser.parse_args().check
    stale = []
    for name, source in render(read_btf(ROOT)).items():
        path = ROOT / ABI / name
        if path.exists() and path.read_text() == source:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.write_text(source)
    for path in stale:
        print(f"{path}: {'differs from the headers; run make abi' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
