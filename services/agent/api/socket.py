"""The agent's unix socket: a request a line, an answer a line; ``monitor`` answers with flows until
one hangs up.

Whoever may open the socket may do everything; its mode is 0600.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from cilia.calls import BUSY, Calls, invalid
from cilia.contracts.agent import Call, MonitorFilter
from cilia.contracts.flow_events import Flow
from cilia.contracts.messages import Message, Problem, ProblemCode, Reply
from cilia.errors import Refused, Unavailable
from cilia.telemetry import span
from services.agent.flows.events import Flows

log = logging.getLogger(__name__)

LINE_LIMIT: Final = 1 << 20
CALLERS: Final = 128


class Socket:
    """Serves calls. ``run`` goes to the supervisor."""

    def __init__(self, path: Path, calls: Calls, flows: Flows) -> None:
        self._path = path
        self._calls = {name: (msgspec.json.Decoder(kind), answer) for name, (kind, answer) in calls.items()}
        self._flows = flows
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
                await self._line(line, reader, writer)
                await writer.drain()
        except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
            log.debug("a caller of the socket is gone: %s", error)
        finally:
            self._callers.discard(writer)
            writer.close()

    async def _line(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            call = self._decode(line)
            if call.call == "monitor":
                wanted = msgspec.json.decode(call.arguments, type=MonitorFilter)
                await self._monitor(wanted, reader, writer)
                return
            with span(call.call, parent=call.traceparent):
                reply = Reply(ok=await self._answer(call))
        except msgspec.DecodeError as error:
            reply = Reply(problem=invalid(error))
        except Refused as refused:
            reply = Reply(problem=refused.problem)
        except Unavailable as error:
            reply = Reply(problem=Problem(ProblemCode.UNAVAILABLE, str(error)))
        except Exception as error:  # a caller's border: one bad request must not end the agent
            log.exception("a call failed")
            reply = Reply(problem=Problem(ProblemCode.INTERNAL, f"{type(error).__name__}: {error}"))
        writer.write(_line(reply))

    async def _answer(self, call: Call) -> Message:
        if call.call not in self._calls:
            raise Refused(Problem(ProblemCode.INVALID, f"no call {call.call!r}", "call", call.call))
        decoder, answer = self._calls[call.call]
        return await answer(decoder.decode(call.arguments))

    async def _monitor(self, wanted: MonitorFilter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inbox = self._flows.listen()
        matches = _filter(wanted)
        hung_up = asyncio.ensure_future(reader.read(1))
        try:
            while not hung_up.done():
                taking = asyncio.ensure_future(inbox.take_all())
                await asyncio.wait((taking, hung_up), return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    break
                writer.writelines(_line(flow) for flow in taking.result() if matches(flow))
                await writer.drain()
        finally:
            hung_up.cancel()
            self._flows.leave(inbox)


def _filter(wanted: MonitorFilter) -> Callable[[Flow], bool]:
    def matches(flow: Flow) -> bool:
        if wanted.kinds and flow.kind not in wanted.kinds:
            return False
        return not wanted.endpoint or wanted.endpoint in (flow.source_endpoint, flow.destination_endpoint)

    return matches


def _line(message: Any) -> bytes:
    return msgspec.json.encode(message) + b"\n"
