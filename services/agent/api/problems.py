"""Problems as callers hear them: every error of a call, with the field at fault."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cilia.contracts.labels import BadLabel
from cilia.contracts.messages import Message, Problem, ProblemCode
from cilia.datapath.errors import DatapathError, MapFull
from cilia.errors import Refused
from cilia.netns import NoNetworkNamespace
from services.agent.errors import (
    AgentError,
    BadField,
    InterfaceTaken,
    NameTaken,
    NoEndpointId,
    NoSlot,
    PolicyDoesNotFit,
    PoolExhausted,
    TooSlow,
    UnknownEndpoint,
)

M = TypeVar("M", bound=Message)


def problem_of(error: AgentError | NoNetworkNamespace | BadLabel | DatapathError | TimeoutError) -> Problem:
    """Describe an error to a caller, with the field at fault."""
    match error:
        case UnknownEndpoint():
            return Problem(ProblemCode.NOT_FOUND, str(error), error.field, error.value)
        case NameTaken():
            return Problem(ProblemCode.CONFLICT, str(error), "name", error.name)
        case BadField():
            return Problem(ProblemCode.INVALID, str(error), error.field, error.value)
        case InterfaceTaken():
            return Problem(ProblemCode.CONFLICT, str(error), "interface", error.interface)
        case NoNetworkNamespace():
            return Problem(ProblemCode.INVALID, str(error), "netns", error.path)
        case PoolExhausted() | NoEndpointId() | NoSlot() | PolicyDoesNotFit() | MapFull():
            return Problem(ProblemCode.EXHAUSTED, str(error))
        case BadLabel():
            return Problem(ProblemCode.INVALID, str(error), "labels", error.text)
        case TooSlow():
            return Problem(ProblemCode.UNAVAILABLE, str(error), "timeout_seconds", f"{error.seconds:g}")
        case TimeoutError():
            return Problem(ProblemCode.UNAVAILABLE, "not done within the given time", "timeout_seconds")
        case _:
            return Problem(ProblemCode.INTERNAL, str(error))


def refusing(answer: Callable[[Any], Awaitable[M]]) -> Callable[[Any], Awaitable[M]]:
    """Return a call that refuses with a problem where ``answer`` raises an error of the agent."""

    async def call(request: Any) -> M:
        try:
            return await answer(request)
        except (AgentError, NoNetworkNamespace, BadLabel, DatapathError, TimeoutError) as error:
            raise Refused(problem_of(error)) from error

    return call
