"""Bootable kernels out of Debian's packages: an image, and an initramfs with the tests' modules.

``apt-get download`` checks the package against the archive's signature. The initramfs holds a
static busybox, the modules and tools/kernels/init; everything else comes from this machine's own
root, which the guest sees read-only.
"""

import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / "build/kernels"
INIT: Final = Path(__file__).with_name("init")
PACKAGES: Final = {"6.1": "linux-image-amd64", "6.12": "linux-image-6.12-amd64"}
"""Version -> Debian 12's package that depends on the newest kernel of it."""
MODULES: Final = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay"),  # this machine's root
    *("veth", "vxlan", "cls_bpf", "sch_ingress", "tun", "bridge"),  # the data plane and its tests
)
BUSYBOX: Final = Path("/bin/busybox")


class CannotPrepare(Exception):
    """A kernel isn't to be had, or this machine lacks a tool."""


@dataclass(frozen=True, slots=True)
class Image:
    """Kernel and first root that QEMU boots."""

    release: str
    """Release of the kernel, as ``uname -r`` says it."""
    kernel: Path
    initramfs: Path


def prepare(version: str) -> Image:
    """Fetch the newest kernel of ``version`` unless it is here, and make its initramfs.

    Raises:
        CannotPrepare: Without network, or without a static busybox.
    """
    package = _package_of(PACKAGES[version])
    release = package.removeprefix("linux-image-")
    image = Image(release, CACHE / f"{release}.vmlinuz", CACHE / f"{release}.cpio")
    if not image.kernel.exists() or not _modules(release).exists():
        _unpack(package, image)
    _pack(image)
    return image


def _modules(release: str) -> Path:
    return CACHE / f"{release}.modules"


def run(command: list[str], directory: Path | None = None) -> str:
    """Run a tool of this machine and return its output; raises CannotPrepare."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory)
    except FileNotFoundError as missing:
        raise CannotPrepare(f"{command[0]} is not installed") from missing
    except subprocess.CalledProcessError as refused:
        raise CannotPrepare(f"{' '.join(command)}: {refused.stderr.strip()}") from refused
    return done.stdout


def _package_of(meta_package: str) -> str:
    return kernel_package(meta_package, run(["apt-cache", "depends", meta_package]))


def kernel_package(meta_package: str, dependencies: str) -> str:
    """Return the package of the newest kernel: the one on which ``meta_package`` depends.

    Raises:
        CannotPrepare: apt lists no kernel among the dependencies.
    """
    found = re.search(r"Depends: (linux-image-\S+)", dependencies)
    if not found:
        raise CannotPrepare(f"apt knows no kernel behind {meta_package}; try apt-get update")
    return found[1]


def _unpack(package: str, image: Image) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        root = Path(scratch)
        run(["apt-get", "download", "-o", "APT::Sandbox::User=root", package], root)
        (archive,) = root.glob("*.deb")
        run(["dpkg-deb", "-x", str(archive), scratch])
        files = {path.name.split(".ko")[0]: path for path in root.glob("lib/modules/**/*.ko*")}
        target = root / "modules"
        target.mkdir()
        for number, (name, data) in enumerate(dependencies_first(MODULES, files).items()):
            (target / f"{number:02}-{name}.ko").write_bytes(data)
        shutil.rmtree(_modules(image.release), ignore_errors=True)
        target.rename(_modules(image.release))
        shutil.copy(root / f"boot/vmlinuz-{image.release}", image.kernel)


def dependencies_first(wanted: Iterable[str], files: Mapping[str, Path]) -> dict[str, bytes]:
    """Return name -> module, uncompressed, dependencies first; one without a file is built in."""
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        path = files.get(name) or files.get(name.replace("_", "-"))
        if path is None or name in ordered:
            return
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        for other in filter(None, (re.findall(rb"\0depends=([^\0]*)\0", data) or [b""])[0].decode().split(",")):
            visit(other)
        ordered[name] = data

    for name in wanted:
        visit(name)
    return ordered


def _pack(image: Image) -> None:
    if not BUSYBOX.exists() or "dynamically" in run(["file", "-L", str(BUSYBOX)]):
        raise CannotPrepare("a static busybox is needed: apt-get install busybox-static")
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        root = Path(scratch)
        shutil.copytree(_modules(image.release), root / "modules")
        shutil.copy(BUSYBOX, root / "busybox")
        shutil.copy(INIT, root / "init")
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with image.initramfs.open("wb") as out:
            command = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
            subprocess.run(command, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, cwd=root, check=True)
