"""Fixtures of the command line's tests."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.unit.commands.fake_cluster import FakeCluster, Run, run_command


@pytest.fixture
def cilia(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """The command line, in this process and without a cluster."""
    monkeypatch.delenv("CILIA_CLUSTER", raising=False)
    return partial(run_command, capsys, monkeypatch)


@pytest.fixture
def cluster(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster without anything in it, which answers nothing."""
    return FakeCluster(capsys, monkeypatch)
