"""Network namespaces: what is none is refused by path, and the thread comes home."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilia.netns import DIRECTORY, NoNetworkNamespace, enter, inside, open_netns

OURS = "/proc/thread-self/ns/net"


@pytest.fixture
def namespace() -> Iterator[Path]:
    name = f"cilia-test-{secrets.token_hex(4)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("root is missing")
    yield DIRECTORY / name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


def test_a_block_inside_is_in_the_namespace_and_afterwards_the_thread_is_home(namespace: Path) -> None:
    home = inode(OURS)
    with inside(namespace):
        assert inode(OURS) == inode(namespace) != home
    assert inode(OURS) == home


def test_the_thread_comes_home_from_an_error_too(namespace: Path) -> None:
    home = inode(OURS)
    with pytest.raises(ValueError, match="within"), inside(namespace):
        raise ValueError("within")
    assert inode(OURS) == home


def test_a_descriptor_is_of_the_namespace_and_closed_behind_the_block(namespace: Path) -> None:
    with open_netns(namespace) as fd:
        assert os.fstat(fd).st_ino == inode(namespace)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_what_is_no_network_namespace_is_named_with_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path, reason in (
        (tmp_path / "nothing", "No such file or directory"),
        (file, "it is no namespace"),
        (Path("/proc/self/ns/mnt"), "it is a namespace of another kind"),
    ):
        with pytest.raises(NoNetworkNamespace, match=f"network namespace {path}: {reason}") as caught:
            enter(path)
        assert (caught.value.path, caught.value.reason) == (str(path), reason)
