"""The range of masqueraded flows follows the node's own, in fake time."""

import asyncio

import pytest

from services.agent.nat.ports import NatPortRange


class Word:
    """The word that the programs read."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.changed = asyncio.Event()
        self.closed = False

    def follow(self, first: int, last: int) -> bool:
        is_new = [(first, last)] != self.ranges[-1:]
        if is_new:
            self.ranges.append((first, last))
            self.changed.set()
        return is_new

    def close(self) -> None:
        self.closed = True


class Node:
    """A node whose setting changes, or can't be read."""

    def __init__(self) -> None:
        self.local = 32_768, 60_999
        self.failure: Exception | None = None

    def read(self) -> tuple[int, int]:
        if self.failure:
            raise self.failure
        return self.local


def test_a_change_of_the_nodes_own_ports_moves_those_of_new_mappings() -> None:
    node, word = Node(), Word()
    ports = NatPortRange(word, 5.0, node.read)  # type: ignore[arg-type]
    ports.look()
    node.local = 1024, 32_767
    ports.look()
    ports.look()
    assert word.ranges == [(1024, 29_999), (32_768, 65_535)]


@pytest.mark.parametrize("failure", [OSError("gone"), ValueError("not two numbers")])
def test_a_setting_that_cannot_be_read_changes_nothing(failure: Exception) -> None:
    node, word = Node(), Word()
    ports = NatPortRange(word, 5.0, node.read)  # type: ignore[arg-type]
    ports.look()
    node.failure = failure
    ports.look()
    assert word.ranges == [(1024, 29_999)]


async def test_it_looks_until_it_is_cancelled_and_gives_the_map_back() -> None:
    node, word = Node(), Word()
    ports = NatPortRange(word, 0.0, node.read)  # type: ignore[arg-type]
    looking = asyncio.create_task(ports.run())
    await word.changed.wait()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    ports.close()
    assert word.closed
