"""Unix socket of the agent: a request a line, an answer a line.

Whoever may open the socket may do everything; its mode is 0600.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from cilia.calls import BUSY, Calls, invalid
from cilia.contracts.agent import Call
from cilia.contracts.messages import Message, Problem, ProblemCode, Reply
from cilia.errors import Refused, Unavailable
from cilia.telemetry import span

log = logging.getLogger(__name__)

LINE_LIMIT: Final = 1 << 20
CALLERS: Final = 128


class Socket:
    """Server of the calls. ``run`` goes to the supervisor."""

    def __init__(self, path: Path, calls: Calls) -> None:
        self._path = path
        self._calls = {name: (msgspec.json.Decoder(kind), answer) for name, (kind, answer) in calls.items()}
        self._decode = msgspec.json.Decoder(Call).decode
        self._callers: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve until cancelled; a socket that a former agent left is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_LIMIT)
        finally:
            os.umask(mask)
        try:
            async with server:
                await server.serve_forever()
        finally:
            for writer in self._callers:
                writer.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._callers) >= CALLERS:
            writer.write(_line(Reply(problem=BUSY)))
            writer.close()
            return
        self._callers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(_line(await self._reply_to(line)))
                await writer.drain()
        except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
            log.debug("a caller of the socket is gone: %s", error)
        finally:
            self._callers.discard(writer)
            writer.close()

    async def _reply_to(self, line: bytes) -> Reply[Message]:
        try:
            call = self._decode(line)
            with span(call.call, parent=call.traceparent):
                return Reply(ok=await self._answer(call))
        except msgspec.DecodeError as error:
            return Reply(problem=invalid(error))
        except Refused as refused:
            return Reply(problem=refused.problem)
        except Unavailable as error:
            return Reply(problem=Problem(ProblemCode.UNAVAILABLE, str(error)))
        except Exception as error:  # a caller's border: one bad request must not end the agent
            log.exception("a call failed")
            return Reply(problem=Problem(ProblemCode.INTERNAL, f"{type(error).__name__}: {error}"))

    async def _answer(self, call: Call) -> Message:
        if call.call not in self._calls:
            raise Refused(Problem(ProblemCode.INVALID, f"no call {call.call!r}", "call", call.call))
        decoder, answer = self._calls[call.call]
        return await answer(decoder.decode(call.arguments))


def _line(message: Any) -> bytes:
    return msgspec.json.encode(message) + b"\n"
