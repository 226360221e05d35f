"""A bus for tests: it answers as it is told, fails as it is told, and keeps what was published."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from cilia.bus import Bus
from cilia.contracts.subjects import Subjects
from cilia.errors import Unavailable
from tests.fakes.clock import now

Answer = Callable[[Any], Any]


class ScriptedBus:
    """Answers by call (``ipam.register``); an answer that is an exception is raised."""

    def __init__(self, **answers: Answer) -> None:
        self.subjects = Subjects("test")
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, Any]] = []
        self.asked_at: list[float] = []
        self.published: list[tuple[str, bytes]] = []
        self.listeners: list[Callable[[], None]] = []
        self.connected = True
        self.refuses_publishing = False
        self.returns_after = 0.0
        """Seconds after which a wait for the connection ends."""

    def on_reconnect(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def as_bus(self) -> Bus:
        return cast(Bus, self)

    async def request(self, subject: str, message: Any, _reply: type[Any], timeout: float = 10.0) -> Any:
        call = ".".join(subject.split(".")[-2:])
        self.asked.append((call, message))
        self.asked_at.append(now())
        answer = self.answers[call](message)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.refuses_publishing:
            raise Unavailable("the bus", "it is away")
        self.published.append((subject, payload))

    async def wait_connected(self) -> None:
        await asyncio.sleep(self.returns_after)
        self.connected = True

    def calls(self) -> list[str]:
        return [call for call, _ in self.asked]
