"""The lint that only cilia/datapath calls bpf(2)."""

import pytest

from tools.bpf_access import ALLOWED, accesses
from tools.tree import ROOT, Source, read_tree


def ways(text: str, path: str = "services/agent/one.py") -> list[str]:
    return [access.way for access in accesses(Source(path, text))]


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("import ctypes\n", "import ctypes"),
        ("import ctypes.util\n", "import ctypes.util"),
        ("def f():\n    import cffi\n", "import cffi"),
        ("from ctypes import CDLL\n", "import ctypes"),
        ("from cilia.datapath._libbpf import lib\n", "import cilia.datapath._libbpf"),
        ("from cilia.datapath import maps, _libbpf\n", "import cilia.datapath._libbpf"),
        ("importlib.import_module('cilia.datapath._libbpf')\n", "'cilia.datapath._libbpf'"),
        ("libc.syscall(321, 5)\n", ".syscall"),
        ("getattr(libc, 'syscall')\n", "'syscall'"),
        ("run(['bpftool', 'map', 'dump'])\n", "'bpftool'"),
        ("run('/usr/sbin/bpftool prog')\n", "'/usr/sbin/bpftool prog'"),
        ("CDLL('libbpf.so.1')\n", "'libbpf.so.1'"),
    ],
)
@pytest.mark.parametrize("path", ["services/agent/one.py", "cilia/bus.py", "cilia/commands/map.py"])
def test_every_other_way_to_the_kernels_bpf_is_named(text: str, way: str, path: str) -> None:
    assert ways(text, path) == [way]


@pytest.mark.parametrize("path", ["cilia/datapath/maps.py", "tests/bpf/rig.py", "tools/proofs/bcc.py", "bench/one.py"])
def test_the_owner_and_what_does_not_ship_may_use_them(path: str) -> None:
    assert ways("import ctypes\nlibc.syscall(321)\nrun('bpftool')\n", path) == []


@pytest.mark.parametrize(
    "text",
    [
        "from cilia.datapath.maps import Map\n",
        "import ctypes_like\n",
        "from cilia.datapath import maps\n",
        '"""As bpftool and libbpf do."""\n',
        'class A:\n    size: int\n    """As libbpf counts it."""\n',
        "# bpftool shows it\nsyscalls = 1\n",
    ],
)
def test_maps_of_the_owner_and_prose_are_no_way(text: str) -> None:
    assert ways(text) == []


def test_a_place_is_named_with_file_line_and_rule() -> None:
    (access,) = accesses(Source("cilia/bus.py", "\nimport ctypes\n"))
    assert str(access) == "cilia/bus.py:2: import ctypes: only cilia/datapath calls bpf(2)"


def test_an_exception_is_for_one_module_in_one_file() -> None:
    assert ways("import ctypes\n", "cilia/netns.py") == []
    assert ways("import cffi\n", "cilia/netns.py") == ["import cffi"]
    assert ways("libc.syscall(321)\n", "cilia/netns.py") == [".syscall"]


def test_this_tree_keeps_the_rule_and_needs_every_exception() -> None:
    sources = read_tree(ROOT)
    assert [str(access) for source in sources for access in accesses(source)] == []
    used = {source.path for source in sources if any(module in source.text for module in ALLOWED.get(source.path, ()))}
    assert used == set(ALLOWED)
