"""Typed requests over a real nats-server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from cilia.bus import Bus, BusConfig, connect_bus
from cilia.calls import serve
from cilia.contracts.ipam import Granted, GrowBlocks
from cilia.contracts.messages import Empty, Problem, ProblemCode
from cilia.errors import Refused, Unavailable
from laboratory.servers import start_nats


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    with start_nats() as server:
        async with connect_bus(BusConfig(urls=(server.url,)), cluster="test", name="tests") as bus:
            yield bus


async def grow(request: GrowBlocks) -> Granted:
    if request.pool == "empty":
        raise Refused(Problem(ProblemCode.EXHAUSTED, "the pool is used up"))
    if request.pool == "slow":
        await asyncio.sleep(0.3)
    if request.pool == "large":
        return Granted("0" * 2_000_000, 7)  # type: ignore[arg-type]
    if request.pool == "bug":
        raise KeyError("oops")
    return Granted("10.0.0.0/26", 7)  # type: ignore[arg-type]


@pytest.fixture
async def served(bus: Bus) -> AsyncIterator[str]:
    server = asyncio.create_task(serve(bus, "ipam", {"grow": (GrowBlocks, grow)}, concurrency=2))
    await bus.flush()
    await asyncio.sleep(0.02)
    yield bus.subjects.request("ipam", "grow")
    server.cancel()


def want(pool: str) -> GrowBlocks:
    return GrowBlocks("a", 1, pool)  # type: ignore[arg-type]


async def test_a_request_is_answered_or_refused_with_its_reason(bus: Bus, served: str) -> None:
    assert (await bus.request(served, want("default"), Granted)).cidr == "10.0.0.0/26"
    with pytest.raises(Refused, match="exhausted: the pool is used up"):
        await bus.request(served, want("empty"), Granted)
    with pytest.raises(Refused, match="internal: KeyError"):
        await bus.request(served, want("bug"), Granted)


async def test_a_request_of_the_wrong_form_names_the_field(bus: Bus, served: str) -> None:
    with pytest.raises(Refused) as refused:
        await bus.request(served, Problem(ProblemCode.INTERNAL, "y"), Granted)
    assert refused.value.problem.code is ProblemCode.INVALID
    assert "node" in refused.value.problem.message


async def test_too_many_requests_hear_busy(bus: Bus, served: str) -> None:
    answers = await asyncio.gather(
        *(bus.request(served, want("slow"), Granted) for _ in range(4)), return_exceptions=True
    )
    assert [isinstance(each, Granted) for each in answers] == [True, True, False, False]
    assert all("busy" in str(each) for each in answers[2:])


async def test_what_is_too_large_for_the_bus_is_refused_with_its_size_and_the_limit(bus: Bus, served: str) -> None:
    with pytest.raises(Refused, match=r"the request ipam.grow has 2,000,\d+ bytes; the bus .* 1,048,576 \(max_payload"):
        await bus.request(served, want("x" * 2_000_000), Granted)
    with pytest.raises(Refused, match=r"the answer to 'grow' has 2,000,\d+ bytes; the bus takes at most 1,048,576"):
        await bus.request(served, want("large"), Granted)
    with pytest.raises(Unavailable, match=r"can't publish on a: the message has 2,000,000 bytes"):
        await bus.publish("a", bytes(2_000_000))
    assert (await bus.request(served, want("default"), Granted)).cidr == "10.0.0.0/26"


async def test_headers_count_and_what_is_just_small_enough_does_not_cost_the_connection(bus: Bus) -> None:
    headers = {"traceparent": "x" * 55}
    received: asyncio.Queue[int] = asyncio.Queue()

    async def deliver(message: Msg) -> None:
        received.put_nowait(len(message.data))

    await bus.subscribe("a", deliver)
    room = 1_048_576 - len("NATS/1.0\r\ntraceparent: \r\n\r\n") - 55
    with pytest.raises(Unavailable, match="has 1,048,577 bytes"):
        await bus.publish("a", bytes(room + 1), headers=headers)
    await bus.publish("a", bytes(room), headers=headers)
    async with asyncio.timeout(5):
        assert await received.get() == room
    assert bus.counters.disconnects == 0


async def test_who_does_not_answer_is_named(bus: Bus, served: str) -> None:
    with pytest.raises(Unavailable, match="policy is unavailable: nobody serves 'apply'"):
        await bus.request(bus.subjects.request("policy", "apply"), Empty(), Empty)
    with pytest.raises(Unavailable, match="ipam is unavailable: no answer to 'grow' within"):
        await bus.request(served, want("slow"), Granted, timeout=0.05)


async def test_a_bus_that_is_not_there_is_unavailable() -> None:
    config = BusConfig(urls=("nats://127.0.0.1:9",), connect_seconds=0.3)
    with pytest.raises(Unavailable, match="no connection to nats://127"):
        async with connect_bus(config, cluster="test", name="tests"):
            pass


async def flush_until_it_fails(bus: Bus) -> None:
    for _ in range(100):
        await bus.flush(timeout=1.0)


async def test_the_connection_comes_back_and_a_flush_across_the_break_does_not_hang() -> None:
    with start_nats() as server:
        async with connect_bus(BusConfig(urls=(server.url,)), cluster="test", name="tests") as bus:
            again = asyncio.Event()
            bus.on_reconnect(again.set)
            server.kill()
            with pytest.raises(Unavailable):
                await flush_until_it_fails(bus)
            server.start()
            async with asyncio.timeout(5):
                await again.wait()
                await bus.flush()
            assert bus.counters.disconnects == 1
