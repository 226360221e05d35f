"""Kernels out of packages: their modules' order, their packages' names, tools that are missing."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.kernels.images import CannotPrepare, dependencies_first, kernel_package, run

NAMES = tuple("abcdef")


def module(directory: Path, name: str, *dependencies: str, compressed: bool = False) -> Path:
    """Write a kernel module that needs others, as modinfo keeps it."""
    data = b"\x7fELF\0license=GPL\0depends=" + ",".join(dependencies).encode() + b"\0name=" + name.encode() + b"\0"
    path = directory / f"{name}.ko{'.xz' if compressed else ''}"
    path.write_bytes(lzma.compress(data) if compressed else data)
    return path


def test_a_module_stands_behind_those_that_it_needs(tmp_path: Path) -> None:
    files = {
        "vxlan": module(tmp_path, "vxlan", "udp_tunnel", "ip6_udp_tunnel"),
        "udp_tunnel": module(tmp_path, "udp_tunnel"),
        "ip6_udp_tunnel": module(tmp_path, "ip6_udp_tunnel", "udp_tunnel"),
    }
    assert list(dependencies_first(["vxlan"], files)) == ["udp_tunnel", "ip6_udp_tunnel", "vxlan"]


def test_a_module_without_a_file_is_built_in(tmp_path: Path) -> None:
    files = {"overlay": module(tmp_path, "overlay", "exportfs")}
    assert list(dependencies_first(["tun", "overlay"], files)) == ["overlay"]


def test_files_may_have_dashes_where_names_have_underscores(tmp_path: Path) -> None:
    files = {"sch-ingress": module(tmp_path, "sch-ingress")}
    assert list(dependencies_first(["sch_ingress"], files)) == ["sch_ingress"]


def test_compressed_modules_are_unpacked(tmp_path: Path) -> None:
    files = {"veth": module(tmp_path, "veth", "ptp", compressed=True), "ptp": module(tmp_path, "ptp")}
    found = dependencies_first(["veth"], files)
    assert list(found) == ["ptp", "veth"]
    assert found["veth"].startswith(b"\x7fELF")


@settings(max_examples=30)
@given(
    needs=st.fixed_dictionaries({name: st.sets(st.sampled_from(NAMES)) for name in NAMES}),
    wanted=st.lists(st.sampled_from(NAMES), unique=True),
)
def test_every_order_keeps_what_a_module_needs_before_it(
    tmp_path_factory: pytest.TempPathFactory, needs: dict[str, set[str]], wanted: list[str]
) -> None:
    acyclic = {name: {other for other in others if other < name} for name, others in needs.items()}
    directory = tmp_path_factory.mktemp("modules")
    found = list(dependencies_first(wanted, {name: module(directory, name, *acyclic[name]) for name in NAMES}))
    assert len(found) == len(set(found))
    assert set(wanted) <= set(found)
    for at, name in enumerate(found):
        assert acyclic[name] <= set(found[:at])


def test_the_newest_kernel_is_the_one_that_the_meta_package_depends_on() -> None:
    listed = "linux-image-amd64\n  Depends: linux-image-6.1.0-37-amd64\n"
    assert kernel_package("linux-image-amd64", listed) == "linux-image-6.1.0-37-amd64"


@pytest.mark.parametrize("listed", ["", "linux-image-amd64\n  Recommends: firmware\n"])
def test_a_meta_package_without_a_kernel_is_named(listed: str) -> None:
    with pytest.raises(CannotPrepare, match=r"no kernel behind linux-image-amd64; try apt-get update"):
        kernel_package("linux-image-amd64", listed)


def test_a_tool_that_is_missing_or_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotPrepare, match="no-such-tool is not installed"):
        run(["no-such-tool"])
    with pytest.raises(CannotPrepare, match=r"ls /no/such/place: .*No such file"):
        run(["ls", "/no/such/place"])
    (tmp_path / "seen").touch()
    assert run(["ls"], tmp_path) == "seen\n"
