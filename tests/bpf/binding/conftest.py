"""Objects compiled once for all tests of the binding, and a directory for pins that leaves nothing
behind.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilia.datapath.features import BPFFS, ensure_bpffs
from cilia.datapath.objects import LoadedObject, load
from tools.build import compile_bpf

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def fixture_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("objects") / "fixture.o"
    compile_bpf(HERE / "fixture.bpf.c", target)
    return target


@pytest.fixture(scope="session")
def refused_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("objects") / "refused.o"
    compile_bpf(HERE / "refused.bpf.c", target)
    return target


@pytest.fixture
def loaded(fixture_object: Path) -> Iterator[LoadedObject]:
    with load(fixture_object) as loaded:
        yield loaded


@pytest.fixture
def pins() -> Iterator[Path]:
    """A directory of its own on the BPF file system."""
    ensure_bpffs()
    directory = BPFFS / f"cilia-test-{os.getpid()}-{secrets.token_hex(4)}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)
