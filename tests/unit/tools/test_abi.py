"""The generator of cilia/abi: what C lays out is what Python packs, checked against the compiler's
own bytes.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tools.abi import anchor_source, read_btf, render
from tools.abi_layout import UnsupportedLayout
from tools.btf import ObjectBtf
from tools.build import ROOT, compile_bpf

HEADER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum fruit_kind {
	FRUIT_APPLE = 1,
	FRUIT_PEAR = 7,
};

struct wrapped {
	__u8 byte[16];
};

struct inner {
	__be16 port;
	__s8 delta;
};

struct sample {
	__u8 first;
	__u32 aligned; /* three bytes of padding before it */
	__be32 address;
	__be64 wide;
	struct wrapped wrapped;
	struct inner inner[2];
	__u16 many[5];
	__u32 low : 3;
	__u32 unused : 5;
	__u32 high : 24;
	enum fruit_kind fruit;
	__u64 count;
	__u8 pad[3];
	__u8 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 10);
	__type(key, __u32);
	__type(value, struct sample);
} cilia_samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} cilia_news SEC(".maps");
"""


def header_root(tmp_path: Path, header: str) -> Path:
    maps = tmp_path / "bpf" / "maps"
    maps.mkdir(parents=True)
    (maps / "sample.h").write_text(header)
    return tmp_path


def imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The generated modules, imported in the place of cilia.abi's own."""
    root = header_root(tmp_path_factory.mktemp("generator"), HEADER)
    sources = render(read_btf(root))
    present = {name: sys.modules.get(name) for name in ("cilia.abi.enums", "cilia.abi.structs", "cilia.abi.maps")}
    try:
        for name in ("enums", "structs"):
            (root / f"{name}.py").write_text(sources[f"{name}.py"])
            imported(f"cilia.abi.{name}", root / f"{name}.py")
        yield sys.modules["cilia.abi.structs"], sys.modules["cilia.abi.enums"], sources
    finally:
        for name, module in present.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def sample(structs: Any, enums: Any) -> Any:
    return structs.Sample(
        first=1,
        aligned=0x01020304,
        address=0x0A000001,
        wide=0x0102030405060708,
        wrapped=bytes(range(16)),
        inner=(structs.Inner(80, -1), structs.Inner(443, 2)),
        many=(1, 2, 3, 4, 5),
        low=5,
        high=0xABCDEF,
        fruit=enums.FruitKind.PEAR,
        count_=9,
        bytes_=255,
    )


INITIALISER = """
#include <stdio.h>
#include <linux/types.h>
#include <endian.h>
#define SEC(name)
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
%s
int main(void)
{
	static struct sample s;
	s.first = 1; s.aligned = 0x01020304; s.address = htobe32(0x0A000001); s.wide = htobe64(0x0102030405060708);
	for (int i = 0; i < 16; i++) s.wrapped.byte[i] = i;
	s.inner[0].port = htobe16(80); s.inner[0].delta = -1; s.inner[1].port = htobe16(443); s.inner[1].delta = 2;
	for (int i = 0; i < 5; i++) s.many[i] = i + 1;
	s.low = 5; s.high = 0xABCDEF; s.fruit = FRUIT_PEAR; s.count = 9; s.bytes = 255;
	fwrite(&s, sizeof(s), 1, stdout);
	return 0;
}
"""


@pytest.fixture(scope="module")
def c_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same sample as a C program lays it out."""
    directory = tmp_path_factory.mktemp("c")
    structs = HEADER[: HEADER.index("struct {\n")].replace("#include <bpf/bpf_helpers.h>", "")
    (directory / "sample.c").write_text(INITIALISER % structs)
    subprocess.run(["cc", "-o", directory / "sample", directory / "sample.c"], check=True)
    return subprocess.run([directory / "sample"], check=True, capture_output=True).stdout


def test_python_packs_the_bytes_that_c_lays_out(generated: Any, c_bytes: bytes) -> None:
    structs, enums, _ = generated
    assert sample(structs, enums).pack() == c_bytes
    assert structs.SAMPLE.size == len(c_bytes)


def test_python_unpacks_what_c_laid_out(generated: Any, c_bytes: bytes) -> None:
    structs, enums, _ = generated
    assert structs.Sample.unpack(c_bytes) == sample(structs, enums)
    assert list(structs.Sample.unpack_each(c_bytes * 3)) == [sample(structs, enums)] * 3


@pytest.mark.parametrize(
    "change", [{"low": 8}, {"high": -1}, {"wrapped": b"short"}, {"wrapped": bytes(17)}, {"address": 1 << 32}]
)
def test_a_value_that_does_not_fit_is_refused_and_never_cut(generated: Any, change: dict[str, Any]) -> None:
    structs, enums, _ = generated
    with pytest.raises(OverflowError):
        sample(structs, enums)._replace(**change).pack()


def test_maps_are_listed_with_their_types(generated: Any) -> None:
    _, _, sources = generated
    assert (
        'SAMPLES: Final = MapLayout("cilia_samples", MapKind.LRU_HASH, codec.U32, structs.SAMPLE, 1024)'
        in sources["maps.py"]
    )
    assert 'NEWS: Final = RingLayout("cilia_news", 4096)' in sources["maps.py"]


def test_fields_carry_their_c_type(generated: Any) -> None:
    _, _, sources = generated
    assert "    inner: tuple[Inner, Inner]  # struct inner[2]\n" in sources["structs.py"]
    assert "    many: tuple[int, ...]  # __u16[5]\n" in sources["structs.py"]
    assert "    low: int  # __u32 : 3\n" in sources["structs.py"]


def test_every_named_struct_and_enum_is_anchored(tmp_path: Path) -> None:
    root = header_root(tmp_path, HEADER)
    source = anchor_source(list(root.glob("bpf/maps/*.h")), root)
    assert "const volatile enum fruit_kind anchor_enum_fruit_kind;" in source
    assert "const volatile struct inner anchor_struct_inner;" in source


def test_bitfields_that_share_a_byte_with_another_member_are_refused(tmp_path: Path) -> None:
    header = "#include <linux/types.h>\nstruct odd {\n\t__u8 first;\n\t__u32 middle : 20;\n\t__u8 last;\n};\n"
    root = header_root(tmp_path, header)
    source, target = tmp_path / "odd.c", tmp_path / "odd.o"
    source.write_text(anchor_source(list(root.glob("bpf/maps/*.h")), root))
    compile_bpf(source, target, root)
    with pytest.raises(UnsupportedLayout, match="overlap at byte"):
        render(ObjectBtf.of(target))


def test_what_is_committed_is_what_the_headers_say() -> None:
    for name, source in render(read_btf(ROOT)).items():
        assert (ROOT / "cilia/abi" / name).read_text() == source, f"cilia/abi/{name} is stale: run make abi"
