"""Write cilia/abi from the headers of the data plane, through BTF: C is the source of every layout.

``python -m tools.abi`` writes, ``--check`` compares with what is there and exits 1 on a difference.
Needs clang and ruff; nobody else does.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cilia.datapath.errors import UnsupportedType
from cilia.datapath.layout import Array, Enum, Integer, Struct, Type
from tools.abi_layout import (
    Flat,
    annotation,
    c_name,
    class_name,
    field_name,
    flatten_members,
    is_bytes,
    is_padding,
)
from tools.btf import MapDefinition, ObjectBtf
from tools.build import ROOT, compile_bpf

ABI = Path("cilia/abi")
REMARK = "Generated from BTF by tools/abi.py (make abi); don't edit."

MAP_KINDS = {
    1: "HASH",
    2: "ARRAY",
    3: "PROG_ARRAY",
    5: "PERCPU_HASH",
    6: "PERCPU_ARRAY",
    9: "LRU_HASH",
    10: "LRU_PERCPU_HASH",
    11: "LPM_TRIE",
    12: "ARRAY_OF_MAPS",
    13: "HASH_OF_MAPS",
    14: "DEVMAP",
    16: "CPUMAP",
    18: "SOCKHASH",
    24: "SK_STORAGE",
    27: "RINGBUF",
}
"""Of enum bpf_map_type, those that a data plane has a use for."""


def anchor_source(headers: Sequence[Path], root: Path) -> str:
    """Give a C source that uses every named struct and enum of ``headers``, so that BTF has them
    all.
    """
    lines = [f'#include "{header.relative_to(root / "bpf")}"' for header in headers]
    names = [
        found
        for header in headers
        for found in re.findall(r"^(struct|enum) (\w+) \{", header.read_text(), flags=re.MULTILINE)
    ]
    lines += [f"const volatile {kind} {name} anchor_{kind}_{name};" for kind, name in sorted(set(names))]
    return "\n".join(lines) + "\n"


def read_btf(root: Path) -> ObjectBtf:
    """Compile the headers of bpf/maps, and those of bpf/lib that name enums, and give their types."""
    libraries = [
        header for header in sorted(root.glob("bpf/lib/*.h")) if re.search(r"^enum \w+ \{", header.read_text(), re.M)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "anchor.c", Path(scratch) / "anchor.o"
        source.write_text(anchor_source([*sorted(root.glob("bpf/maps/*.h")), *libraries], root))
        compile_bpf(source, target, root)
        return ObjectBtf.of(target)


def render_enums(enums: Iterable[Enum]) -> str:
    """Give the source of enums.py."""
    parts = [f'"""Closed choices of the data plane. {REMARK}"""\n\nfrom enum import IntEnum\n']
    for enum in enums:
        members = "\n".join(f"    {_member_name(enum, name)} = {value}" for name, value in enum.values)
        parts.append(f'class {class_name(enum.name)}(IntEnum):\n    """``enum {enum.name}``."""\n\n{members}\n')
    return "\n\n".join(parts)


def _member_name(enum: Enum, name: str) -> str:
    """Drop the words that a member shares with its enum: SHAPE_ANY of policy_shape is ANY."""
    words = enum.name.upper().split("_")
    heads = [words[:length] for length in range(len(words), 0, -1)]
    for shared in [*heads, *(words[start:] for start in range(1, len(words)))]:
        rest = name.removeprefix("_".join(shared) + "_")
        if rest != name and rest.isidentifier():
            return rest
    return name


def render_structs(structs: Iterable[Struct]) -> str:
    """Give the source of structs.py."""
    ordered = _dependencies_first(structs)
    body = "\n\n".join(_render_struct(struct) for struct in ordered)
    enums = sorted({name for struct in ordered for name in _enum_names(struct)})
    turns = [name for name in ("htonl", "htons", "ntohl", "ntohs") if f"{name}(" in body]
    checks = [name for name in ("exact", "fit") if f"{name}(" in body]
    head = [
        f'"""Keys, values and events of the data plane. {REMARK}\n\n'
        "Integers are in host order, also where C keeps them in network order; ``unpack`` takes exactly one struct,\n"
        '``unpack_each`` any number of them in a row.\n"""\n',
        "from collections.abc import Iterator",
        f"from socket import {', '.join(turns)}" if turns else "",
        "from struct import Struct",
        "from typing import Any, Final, NamedTuple, Self\n",
        f"from cilia.abi.codec import {', '.join(['Buffer', 'Codec', *checks])}",
        f"from cilia.abi.enums import {', '.join(enums)}" if enums else "",
    ]
    return "\n".join(line for line in head if line) + "\n\n\n" + body


def _render_struct(struct: Struct) -> str:
    name, constant = class_name(struct.name), struct.name.upper()
    flat = Flat()
    unpacked = flatten_members(struct, 0, "self", flat)
    fields = "\n".join(
        f"    {field_name(member.name)}: {annotation(member.type)}  # {c_name(member.type)}"
        + (f" : {member.bit_width}" if member.bit_width else "")
        for member in struct.members
        if not is_padding(member)
    )
    return f'''_{constant} = Struct("{flat.format}")


class {name}(NamedTuple):
    """``struct {struct.name}``, {struct.size} bytes."""

{fields}

    def pack(self) -> bytes:
        return _{constant}.pack({", ".join(flat.values)})

    @classmethod
    def of(cls, v: tuple[Any, ...]) -> Self:
        """Build from the values of the flat format."""
        return cls({", ".join(unpacked)})

    @classmethod
    def unpack(cls, data: Buffer) -> Self:
        return cls.of(_{constant}.unpack(data))

    @classmethod
    def unpack_each(cls, data: Buffer) -> Iterator[Self]:
        return map(cls.of, _{constant}.iter_unpack(data))


{constant}: Final = Codec("struct {struct.name}", {struct.size}, {name}.pack, {name}.unpack)
'''


def _inner_structs(kind: Type) -> Iterable[Struct]:
    match kind:
        case Array(element=element):
            return _inner_structs(element)
        case Struct() if not is_bytes(kind):
            return [kind]
    return []


def _enum_names(struct: Struct) -> Iterable[str]:
    for member in struct.members:
        match member.type:
            case Integer(enum=Enum(name=name)) | Array(element=Integer(enum=Enum(name=name))):
                yield class_name(name)


def _dependencies_first(structs: Iterable[Struct]) -> list[Struct]:
    """Order by name, except that what a struct contains comes before it; plain bytes need no class."""
    ordered: list[Struct] = []

    def visit(struct: Struct) -> None:
        for member in struct.members:
            for inner in _inner_structs(member.type):
                visit(inner)
        if struct not in ordered:
            ordered.append(struct)

    for struct in sorted(structs, key=lambda one: one.name):
        if not is_bytes(struct):
            visit(struct)
    return ordered


def render_maps(maps: Iterable[MapDefinition]) -> str:
    """Give the source of maps.py."""
    lines = []
    for one in sorted(maps, key=lambda one: one.name):
        constant = one.name.removeprefix("cilia_").upper()
        if one.key is None or one.value is None:
            lines.append(f'{constant}: Final = RingLayout("{one.name}", {one.max_entries})')
            continue
        flags = f", {one.flags:#x}" if one.flags else ""
        key, value = _codec(one.key), _codec(one.value)
        kind = MAP_KINDS[one.kind]
        lines.append(f'{constant}: Final = MapLayout("{one.name}", "{kind}", {key}, {value}, {one.max_entries}{flags})')
    body = "\n".join(lines)
    words = [word for word in ("MapLayout", "RingLayout") if f"{word}(" in body]
    head = (
        f'"""Maps of the data plane; who writes and who reads them stands in bpf/maps.\n\n{REMARK}\n"""\n\n'
        "from typing import Final\n\nfrom cilia.abi import codec, structs\n"
        f"from cilia.abi.codec import {', '.join(words)}\n"
    )
    return f"{head}\n{body}\n"


def _codec(kind: Type) -> str:
    if is_bytes(kind):
        return f"codec.raw({kind.size})"
    match kind:
        case Struct(name=name):
            return f"structs.{name.upper()}"
        case Integer(is_network_order=False, size=size, is_signed=is_signed):
            return f"codec.{'S' if is_signed else 'U'}{8 * size}"
    raise UnsupportedType(f"{c_name(kind)} by itself in a map; put it into a struct")


def render(btf: ObjectBtf) -> dict[str, str]:
    """Give file name -> formatted source."""
    sources = {
        "enums.py": render_enums(sorted(btf.enums(), key=lambda enum: enum.name)),
        "structs.py": render_structs(btf.structs()),
        "maps.py": render_maps(btf.maps()),
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
