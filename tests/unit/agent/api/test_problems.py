"""Problems of callers: every error of the agent has a code, and names the field at fault."""

import inspect

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.labels import BadLabel
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.datapath.errors import DatapathError, MapFull
from cilia.errors import Refused
from cilia.netns import NoNetworkNamespace
from services.agent import errors
from services.agent.api.problems import problem_of, refusing

CASES: tuple[tuple[Exception, ProblemCode, str, str], ...] = (
    (errors.UnknownEndpoint("name", "shop/web"), ProblemCode.NOT_FOUND, "name", "shop/web"),
    (errors.NameTaken("shop/web", "/run/netns/web"), ProblemCode.CONFLICT, "name", "shop/web"),
    (errors.BadField("interface", "lo", "no"), ProblemCode.INVALID, "interface", "lo"),
    (errors.InterfaceTaken("eth0", "/run/netns/web"), ProblemCode.CONFLICT, "interface", "eth0"),
    (NoNetworkNamespace("/run/netns/web", "no"), ProblemCode.INVALID, "netns", "/run/netns/web"),
    (errors.PoolExhausted(("10.1.0.0/28",), 13), ProblemCode.EXHAUSTED, "", ""),
    (errors.NoEndpointId(65_535), ProblemCode.EXHAUSTED, "", ""),
    (errors.NoSlot(Identity(300), 4095), ProblemCode.EXHAUSTED, "", ""),
    (errors.PolicyDoesNotFit(Identity(300), 100, 10), ProblemCode.EXHAUSTED, "", ""),
    (MapFull("cilia_endpoints", 16, 7, key=b"", done=0), ProblemCode.EXHAUSTED, "", ""),
    (BadLabel("web;db", "no"), ProblemCode.INVALID, "labels", "web;db"),
    (errors.TooSlow("its link", 2.5), ProblemCode.UNAVAILABLE, "timeout_seconds", "2.5"),
    (TimeoutError(), ProblemCode.UNAVAILABLE, "timeout_seconds", ""),
    (errors.LinkFailed("creation", "eth0", "/run/netns/web", "no"), ProblemCode.INTERNAL, "", ""),
    (errors.UnknownBlock("10.9.0.1", ()), ProblemCode.INTERNAL, "", ""),
    (DatapathError("the kernel is odd"), ProblemCode.INTERNAL, "", ""),
)


@pytest.mark.parametrize(("error", "code", "field", "value"), CASES, ids=lambda each: type(each).__name__)
def test_an_error_has_a_code_and_the_field_at_fault(
    error: Exception, code: ProblemCode, field: str, value: str
) -> None:
    problem = problem_of(error)  # type: ignore[arg-type]
    assert (problem.code, problem.field, problem.value) == (code, field, value)
    assert problem.message
    if str(error):
        assert problem.message == str(error)


def test_no_error_of_the_agent_is_forgotten() -> None:
    own = {
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.AgentError) and each is not errors.AgentError
    }
    assert own <= {type(error) for error, *_ in CASES}


@pytest.mark.parametrize("error", [error for error, *_ in CASES], ids=lambda each: type(each).__name__)
async def test_a_call_refuses_with_the_problem_of_its_error(error: Exception) -> None:
    async def answer(_request: object) -> Empty:
        raise error

    with pytest.raises(Refused) as caught:
        await refusing(answer)(Empty())
    assert caught.value.problem == problem_of(error)  # type: ignore[arg-type]
    assert caught.value.__cause__ is error


async def test_answers_refusals_and_bugs_pass_as_they_are() -> None:
    refusal = Refused(Problem(ProblemCode.BUSY, "later"))
    raised: list[Exception] = [refusal, ZeroDivisionError()]

    async def answer(_request: object) -> Empty:
        if raised:
            raise raised.pop(0)
        return Empty()

    call = refusing(answer)
    with pytest.raises(Refused) as caught:
        await call(Empty())
    assert caught.value is refusal
    with pytest.raises(ZeroDivisionError):
        await call(Empty())
    assert await call(Empty()) == Empty()
