"""Word of changes: writers overlap, and one that died leaves nothing under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi import maps
from cilia.abi.enums import ChangePart
from services.agent import change as module
from services.agent.change import ChangeWord, settle_changes
from tests.unit.agent.maps import FakeArrayMemory, FakeObjects


class Setting:
    """The word, two of its writers, and what a program may believe."""

    def __init__(self) -> None:
        objects = FakeObjects()
        self.word = FakeArrayMemory(objects.map(maps.CHANGE))
        self.objects = objects.loaded
        self.writers = ChangeWord(self.objects), ChangeWord(self.objects)

    @property
    def under_way(self) -> int:
        return self.word.load_u32(0) & ChangePart.UNDER_WAY


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ArrayMemory", FakeArrayMemory)


def test_a_change_is_under_way_from_before_its_first_store_until_after_its_last() -> None:
    here = Setting()
    before = here.word.load_u32(0)
    with here.writers[0].under_way():
        assert here.under_way == 1
    assert here.under_way == 0
    assert here.word.load_u32(0) > before


def test_a_change_that_fails_is_done_all_the_same() -> None:
    here = Setting()
    with pytest.raises(ValueError, match="no"), here.writers[0].under_way():
        raise ValueError("no")
    assert (here.under_way, here.word.load_u32(0)) == (0, ChangePart.DONE)


@given(st.lists(st.sampled_from(("begin 0", "begin 1", "end 0", "end 1", "note")), max_size=40))
def test_no_word_that_was_seen_before_a_change_is_seen_after_it(steps: list[str]) -> None:
    here = Setting()
    changes: dict[str, list[object]] = {"0": [], "1": []}
    before: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ArrayMemory", FakeArrayMemory)
        for step in steps:
            match step.split():
                case ["begin", who]:
                    change = here.writers[int(who)].under_way()
                    change.__enter__()
                    changes[who].append(change)
                case ["end", who] if changes[who]:
                    changes[who].pop().__exit__(None, None, None)  # type: ignore[attr-defined]
                    assert here.word.load_u32(0) not in before
                case ["note"]:
                    here.writers[0].note()
                    assert here.word.load_u32(0) not in before
            assert here.under_way == (len(changes["0"]) + len(changes["1"])) % ChangePart.DONE
            before.append(here.word.load_u32(0))


@pytest.mark.parametrize("left", [0, 1, 3, 0xFFFF_FFF1])
def test_a_successor_ends_what_was_left_under_way_and_nothing_is_believed_any_more(left: int) -> None:
    here = Setting()
    here.word.store_u32(0, left)
    settle_changes(here.objects)
    assert here.under_way == 0
    assert here.word.load_u32(0) not in (left, left & ~ChangePart.UNDER_WAY)
