"""Replication of a part of etcd, in the order in which it happened.

A consumer that feeds on it can compute a pure function of etcd's state at a revision: it first gets
everything as of one revision, and then each later change in order, of all its prefixes together.
When etcd has compacted the history away meanwhile, everything comes again.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from cilia.backoff import Backoff
from cilia.errors import Unavailable
from cilia.kvstore.client import Etcd
from cilia.kvstore.errors import Compacted
from cilia.kvstore.operations import Event, Record

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reset:
    """All records below the prefixes, as of ``revision``: forget what you had."""

    revision: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes in (``previous``, ``revision``], in order; without events they only move on."""

    previous: int
    revision: int
    events: tuple[Event, ...]


async def replicate(etcd: Etcd, root: str, prefixes: Sequence[str]) -> AsyncGenerator[Reset | Changes, None]:
    """Yield a :class:`Reset` and then :class:`Changes`, for ever.

    Args:
        root: What all of ``prefixes`` begin with; one watch on it keeps their order.
        prefixes: What to replicate.

    Raises:
        Unavailable: etcd doesn't answer the first read; later it is waited for.
    """
    interest = tuple(prefixes)
    revision, backoff = 0, Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    while True:
        try:
            reset = await _read(etcd, interest)
            yield reset
            revision = reset.revision
            backoff.reset()
            async with aclosing(etcd.watch(root, revision + 1)) as batches:
                async for batch in batches:
                    events = tuple(event for event in batch.events if event.key.startswith(interest))
                    yield Changes(revision, batch.revision, events)
                    revision = batch.revision
        except Compacted as error:
            log.info("reading %s again: %s", root, error)
        except Unavailable as error:
            if not revision:
                raise
            log.info("reading %s later: %s", root, error)
            await backoff.pause()


async def _read(etcd: Etcd, prefixes: tuple[str, ...]) -> Reset:
    first, *others = prefixes
    records, revision = await etcd.range(first)
    for prefix in others:
        more, _ = await etcd.range(prefix, revision=revision)
        records.extend(more)
    return Reset(revision, tuple(records))
