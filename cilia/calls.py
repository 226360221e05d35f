"""Serving typed calls on the bus: decode, bound, answer.

The edge of every service and of every agent.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.msg import Msg

from cilia.bus import Bus
from cilia.bus.payload import patience_of
from cilia.contracts.ids import NodeName
from cilia.contracts.messages import Message, Problem, ProblemCode, Reply
from cilia.errors import Refused, TooLarge, Unavailable
from cilia.pauses import Pauses
from cilia.telemetry import TRACEPARENT, span, traceparent

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
Answer = Callable[[Any], Awaitable[Message]]
Calls = Mapping[str, tuple[type[Any], Answer]]
"""Name of a call -> type of its request and the function that answers it, or raises Refused."""

LATE_SECONDS: Final = 0.1
"""Least time before the end of a caller's patience in which a request is still begun."""
BUSY = Problem(ProblemCode.BUSY, "too many requests are under way; try again")


async def serve(bus: Bus, service: str, calls: Calls, *, concurrency: int = 64) -> None:
    """Answer calls to a service, as one of its replicas, until cancelled.

    Beyond ``concurrency`` requests at once, callers hear ``busy``.
    """
    subjects = {bus.subjects.request(service, call): (call, *typed) for call, typed in calls.items()}
    await _serve(bus, subjects, queue=service, concurrency=concurrency)


async def serve_alone(bus: Bus, service: str, calls: Calls, *, concurrency: int = 64) -> None:
    """Answer calls to a service that are its elected replica's, until cancelled.

    There is no queue group, so that a former one that hangs takes no request away.
    """
    subjects = {bus.subjects.request(service, call): (call, *typed) for call, typed in calls.items()}
    await _serve(bus, subjects, queue="", concurrency=concurrency)


async def serve_node(bus: Bus, node: NodeName, calls: Calls, *, concurrency: int = 64) -> None:
    """Answer calls to one node's agent until cancelled."""
    subjects = {bus.subjects.node(node, call): (call, *typed) for call, typed in calls.items()}
    await _serve(bus, subjects, queue="", concurrency=concurrency)


async def _serve(
    bus: Bus, subjects: Mapping[str, tuple[str, type[Any], Answer]], *, queue: str, concurrency: int
) -> None:
    running: set[asyncio.Task[None]] = set()
    subscriptions = []
    pauses = Pauses(bus, asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as group:

        def start(call: str, decoder: "msgspec.json.Decoder[Any]", answer: Answer) -> Callable[[Msg], Awaitable[None]]:
            async def deliver(message: Msg) -> None:
                waited = pauses.longest_wait()
                if waited and waited + LATE_SECONDS >= patience_of(message.headers):
                    log.warning("a request %r that came during a pause of this process is given up", call)
                    return
                if len(running) >= concurrency:
                    await _reply(bus, message, Reply(problem=BUSY), call)
                    return
                task = group.create_task(_handle(bus, message, call, decoder, answer))
                running.add(task)
                task.add_done_callback(running.discard)

            return deliver

        try:
            for subject, (call, kind, answer) in subjects.items():
                deliver = start(call, msgspec.json.Decoder(kind), answer)
                subscriptions.append(await bus.subscribe(subject, deliver, queue=queue))
            await pauses.run()
        finally:
            for subscription in subscriptions:
                await bus.unsubscribe(subscription)


async def _handle(bus: Bus, message: Msg, call: str, decoder: "msgspec.json.Decoder[Any]", answer: Answer) -> None:
    with span(call, parent=(message.headers or {}).get(TRACEPARENT, "")):
        try:
            reply: Reply[Message] = Reply(ok=await answer(decoder.decode(message.data)))
        except msgspec.DecodeError as error:
            reply = Reply(problem=invalid(error))
        except Refused as refused:
            reply = Reply(problem=refused.problem)
        except Unavailable as error:
            reply = Reply(problem=Problem(ProblemCode.UNAVAILABLE, str(error)))
        except Exception as error:  # a task's border: one bad request must not end the replica
            log.exception("call %s failed", call)
            reply = Reply(problem=Problem(ProblemCode.INTERNAL, f"{type(error).__name__}: {error}"))
        await _reply(bus, message, reply, call)


async def _reply(bus: Bus, message: Msg, reply: Reply[Any], call: str) -> None:
    if not message.reply:
        return
    try:
        await bus.publish(message.reply, _encode(bus, reply, call))
    except Unavailable as error:
        log.warning("an answer is lost: %s", error)


def _encode(bus: Bus, reply: Reply[Any], call: str) -> bytes:
    """Return an answer's bytes, or those of the problem that it has too many: whoever asked would
    wait in vain.
    """
    payload = msgspec.json.encode(reply)
    try:
        bus.check_size(f"the answer to {call!r}", payload, {TRACEPARENT: traceparent()})
    except TooLarge as error:
        return msgspec.json.encode(Reply[Any](problem=error.problem))
    return payload


def invalid(error: msgspec.DecodeError) -> Problem:
    """Describe a message that could not be decoded; ``field`` is its path, such as ``ipv4`` or
    ``endpoint.id``.
    """
    reason, _, path = str(error).partition(" - at `")
    return Problem(ProblemCode.INVALID, reason, field=re.sub(r"^\$\.?|`$", "", path))
