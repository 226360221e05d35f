"""Kernels out of packages: their modules' order, their packages' names, tools that are missing."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.kernels import images
from tools.kernels.images import CannotPrepare, dependencies_first, kernel_package, prepare, run

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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of kernels, and a machine whose tools say what they are asked."""
    monkeypatch.setattr(images, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(images, "BUSYBOX", tmp_path / "busybox")
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


class Machine:
    """Tools of a machine: apt with one kernel, whose package holds an image and two modules."""

    def __init__(self, busybox: str = "statically linked") -> None:
        self.calls: list[str] = []
        self.busybox = busybox

    def run(self, command: list[str], directory: Path | None = None) -> str:
        self.calls.append(command[0])
        match command[0]:
            case "apt-cache":
                return "linux-image-amd64\n  Depends: linux-image-6.1.0-9-amd64\n"
            case "apt-get":
                assert directory is not None
                (directory / "one.deb").touch()
            case "dpkg-deb":
                root = Path(command[3])
                (root / "boot").mkdir()
                (root / "boot/vmlinuz-6.1.0-9-amd64").write_bytes(b"kernel")
                (root / "lib/modules/6.1.0-9-amd64").mkdir(parents=True)
                module(root / "lib/modules/6.1.0-9-amd64", "vxlan", "udp_tunnel")
                module(root / "lib/modules/6.1.0-9-amd64", "udp_tunnel")
            case "file":
                return self.busybox
        return ""


def test_a_kernel_is_fetched_once_with_the_modules_that_the_tests_need(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, packed = Machine(), list[images.Image]()
    monkeypatch.setattr(images, "run", machine.run)
    monkeypatch.setattr(images, "_pack", packed.append)
    first, again = prepare("6.1"), prepare("6.1")
    assert first == again == packed[0]
    assert first.release == "6.1.0-9-amd64"
    assert first.kernel.read_bytes() == b"kernel"
    assert sorted(path.name for path in (cache / "6.1.0-9-amd64.modules").iterdir()) == [
        "00-udp_tunnel.ko",
        "01-vxlan.ko",
    ]
    assert machine.calls.count("apt-get") == 1


def test_a_fetch_that_fails_leaves_nothing_that_looks_like_a_kernel(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine()

    def refuse(command: list[str], directory: Path | None = None) -> str:
        if command[0] == "dpkg-deb":
            raise CannotPrepare("dpkg-deb: no space")
        return machine.run(command, directory)

    monkeypatch.setattr(images, "run", refuse)
    with pytest.raises(CannotPrepare, match="no space"):
        prepare("6.1")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("busybox", ["", "dynamically linked, stripped"])
def test_without_a_static_busybox_it_is_said_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, busybox: str
) -> None:
    if busybox:
        images.BUSYBOX.touch()
    monkeypatch.setattr(images, "run", Machine(busybox).run)
    with pytest.raises(CannotPrepare, match="apt-get install busybox-static"):
        prepare("6.1")
