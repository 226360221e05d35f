"""Plan of a reconciler by text scripts: commands in, batches and states out (see ``script``)."""

from pathlib import Path

import pytest

from tests.unit.reconcile.script import Script

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_prints_what_it_says(path: Path) -> None:
    text = path.read_text()
    assert Script().run(text) == text
