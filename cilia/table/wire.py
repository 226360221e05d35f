"""Rows as messages: arrays of encoded rows, packed to a size that the bus carries.

A row is encoded once and its bytes are kept (:class:`Block`), whatever number of subscribers ask
for it.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from cilia.contracts.distribution import Delta

K = TypeVar("K")
V = TypeVar("V")

BLOCK_ROWS: Final = 4096
BLOCK_BYTES: Final = 400_000
"""Half of what a message may be (nats-server: 1 MiB), so that one big row more still fits."""

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


@dataclass(frozen=True, slots=True)
class Block:
    """``count`` encoded items, one after the other, without the array's head."""

    count: int
    items: bytes


EMPTY: Final = Block(0, b"")


def array(block: Block) -> Raw:
    """Return the block as a msgpack array (array 16 or array 32 of the msgpack specification)."""
    head = (
        b"\xdc" + block.count.to_bytes(2, "big") if block.count < 65_536 else b"\xdd" + block.count.to_bytes(4, "big")
    )
    return Raw(head + block.items)


def pack(items: Iterable[object]) -> Iterator[Block]:
    """Encode items into blocks within BLOCK_ROWS and BLOCK_BYTES."""
    return merge(Block(1, encode(item)) for item in items)


def merge(blocks: Iterable[Block]) -> Iterator[Block]:
    """Join small blocks into ones within BLOCK_ROWS and BLOCK_BYTES; a bigger one stays alone."""
    gathered: list[bytes] = []
    count = size = 0
    for block in blocks:
        if gathered and (count + block.count > BLOCK_ROWS or size + len(block.items) > BLOCK_BYTES):
            yield Block(count, b"".join(gathered))
            gathered, count, size = [], 0, 0
        gathered.append(block.items)
        count += block.count
        size += len(block.items)
    if count:
        yield Block(count, b"".join(gathered))


def encode_delta(delta: Delta[K, V]) -> list[bytes]:
    """Return the delta as one message, or as its numbered parts if it is too big for one."""
    whole = encode(delta)
    if len(whole) <= BLOCK_BYTES:
        return [whole]
    parts = ceil(len(whole) / (BLOCK_BYTES // 2))
    batch = random.getrandbits(32)
    return [
        encode(
            Delta(
                delta.epoch,
                delta.previous,
                delta.sequence,
                tuple(_nth(delta.upserts, part, parts)),
                tuple(_nth(delta.removes, part, parts)),
                part,
                parts,
                batch,
                delta.together,
            )
        )
        for part in range(parts)
    ]


T = TypeVar("T")


def _nth(items: Sequence[T], part: int, parts: int) -> Sequence[T]:
    return items[len(items) * part // parts : len(items) * (part + 1) // parts]
