"""Serving calls over a fake bus: decoded, bounded, answered, and no bug of one ends the service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from cilia.bus.payload import PATIENCE, patience_of, with_patience
from cilia.calls import BUSY, Calls, invalid, serve, serve_node
from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import Granted, GrowBlocks, RegisterNode
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.errors import Refused, Unavailable
from cilia.pauses import Pauses
from tests.fakes.bus import Broker, FakeBus
from tests.fakes.clock import end, in_fake_time, settle


async def grow(request: GrowBlocks) -> Granted:
    match request.pool:
        case "slow":
            await asyncio.sleep(1)
        case "empty":
            raise Refused(Problem(ProblemCode.EXHAUSTED, "all granted", "pool", "empty"))
        case "away":
            raise Unavailable("etcd", "gone")
        case "bug":
            raise KeyError("a bug")
        case "large":
            return Granted("x" * 2_000_000, Revision(1))
    return Granted("10.0.0.0/26", Revision(1))


CALLS: Calls = {"grow": (GrowBlocks, grow)}


@asynccontextmanager
async def serving(broker: Broker, concurrency: int = 64) -> AsyncIterator[FakeBus]:
    task = asyncio.create_task(serve(broker.bus(), "ipam", CALLS, concurrency=concurrency))
    await settle()
    try:
        yield broker.bus()
    finally:
        await end(task)


async def ask(bus: FakeBus, pool: str) -> Granted:
    request = GrowBlocks(NodeName("n1"), Incarnation(1), pool)
    return await bus.request(bus.subjects.request("ipam", "grow"), request, Granted)


@in_fake_time
async def test_a_call_is_answered() -> None:
    async with serving(Broker()) as bus:
        assert (await ask(bus, "default")).cidr == "10.0.0.0/26"


@pytest.mark.parametrize(
    ("pool", "code", "message"),
    [
        ("empty", ProblemCode.EXHAUSTED, "all granted"),
        ("away", ProblemCode.UNAVAILABLE, "etcd is unavailable: gone"),
        ("bug", ProblemCode.INTERNAL, "KeyError: 'a bug'"),
        ("large", ProblemCode.INVALID, "the answer to 'grow' has 2,000,"),
    ],
)
def test_what_goes_wrong_is_answered_by_its_kind(pool: str, code: ProblemCode, message: str) -> None:
    @in_fake_time
    async def run() -> None:
        async with serving(Broker()) as bus:
            with pytest.raises(Refused) as caught:
                await ask(bus, pool)
            assert caught.value.problem.code is code
            assert message in caught.value.problem.message
            assert (await ask(bus, "default")).cidr, "the next one is served"

    run()


@in_fake_time
async def test_beyond_the_bound_callers_hear_busy_at_once_and_room_comes_again() -> None:
    async with serving(Broker(), concurrency=2) as bus:
        outcomes = await asyncio.gather(*(ask(bus, "slow") for _ in range(5)), return_exceptions=True)
        refused = [outcome.problem for outcome in outcomes if isinstance(outcome, Refused)]
        assert refused == [BUSY] * 3
        assert (await ask(bus, "default")).cidr


@in_fake_time
async def test_a_request_of_the_wrong_form_names_the_field() -> None:
    async with serving(Broker()) as bus:
        with pytest.raises(Refused) as caught:
            await bus.request(bus.subjects.request("ipam", "grow"), Problem(ProblemCode.BUSY, "y"), Granted)
        assert caught.value.problem.code is ProblemCode.INVALID


@in_fake_time
async def test_each_call_is_served_by_one_replica_and_each_node_by_its_own() -> None:
    broker = Broker()
    heard: list[str] = []

    def calls(name: str) -> Calls:
        async def note(_: Empty) -> Empty:
            heard.append(name)
            return Empty()

        return {"call": (Empty, note)}

    tasks = [asyncio.create_task(serve(broker.bus(), "ipam", calls(name))) for name in ("a", "b")]
    tasks += [asyncio.create_task(serve_node(broker.bus(), NodeName(name), calls(name))) for name in ("n1", "n2")]
    await settle()
    bus = broker.bus()
    await bus.request(bus.subjects.request("ipam", "call"), Empty(), Empty)
    await bus.request(bus.subjects.node(NodeName("n2"), "call"), Empty(), Empty)
    assert heard == ["a", "n2"]
    await end(*tasks)
    with pytest.raises(Unavailable, match="ipam is unavailable: nobody serves 'call'"):
        await bus.request(bus.subjects.request("ipam", "call"), Empty(), Empty)


@in_fake_time
async def test_a_call_that_wants_no_answer_gets_none() -> None:
    broker = Broker()
    async with serving(broker) as bus:
        payload = msgspec.json.encode(GrowBlocks(NodeName("n1"), Incarnation(1)))
        await bus.publish(bus.subjects.request("ipam", "grow"), payload)
        await settle()
        assert len(broker.sent) == 1


def test_a_problem_of_decoding_has_the_path_of_its_field() -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(b'{"name": "n1", "ipv4": 7}', type=RegisterNode)
    assert invalid(caught.value) == Problem(ProblemCode.INVALID, "Expected `str`, got `int`", "ipv4")


@pytest.mark.parametrize(("waited", "answered"), [(0.0, True), (1.5, True), (4.95, False), (30.0, False)])
def test_a_request_that_waited_until_its_caller_gave_up_is_not_carried_out(
    monkeypatch: pytest.MonkeyPatch, waited: float, answered: bool
) -> None:
    monkeypatch.setattr(Pauses, "longest_wait", lambda _: waited)

    @in_fake_time
    async def run() -> None:
        async with serving(Broker()) as bus:
            if answered:
                assert (await ask(bus, "default")).cidr == "10.0.0.0/26"
            else:
                with pytest.raises(Unavailable, match="no answer"):
                    await ask(bus, "default")

    run()


@pytest.mark.parametrize(("headers", "seconds"), [(None, "inf"), ({}, "inf"), ({PATIENCE: "x"}, "inf")])
def test_without_a_readable_patience_an_answer_is_awaited_for_ever(
    headers: dict[str, str] | None, seconds: str
) -> None:
    assert patience_of(headers) == float(seconds)
    assert patience_of(with_patience(1.5)) == 1.5
