"""cilia_gateways: the programs answer for the gateway of each family, whatever others write."""

from collections.abc import Callable
from typing import Any

import pytest

from cilia.abi import maps
from cilia.abi.enums import GatewayFamily
from services.agent.address import number, packed
from services.agent.node.gateways import GatewayMap
from tests.unit.agent.maps import FakeMap, FakeObjects

IPV4, IPV6, OTHER = number("10.1.0.1"), number("fd00::1"), number("198.51.100.1")


async def in_thread(read: Callable[[], Any]) -> Any:
    return read()


@pytest.fixture
def kernel() -> FakeMap[int, bytes]:
    return FakeObjects().map(maps.GATEWAYS)


@pytest.fixture
def gateways(monkeypatch: pytest.MonkeyPatch, kernel: FakeMap[int, bytes]) -> GatewayMap:
    objects = FakeObjects()
    monkeypatch.setattr(objects, "map", lambda _: kernel)
    return GatewayMap(objects.loaded)


async def test_before_registration_nothing_is_expected(gateways: GatewayMap) -> None:
    (drift,) = await gateways.look(in_thread)
    assert drift.differences == ()


async def test_each_family_has_its_gateway(gateways: GatewayMap, kernel: FakeMap[int, bytes]) -> None:
    gateways.write([IPV4, IPV6])
    assert kernel.held == {GatewayFamily.IPV4: packed(IPV4), GatewayFamily.IPV6: packed(IPV6)}
    gateways.write([OTHER])
    assert gateways.read() == {GatewayFamily.IPV4: OTHER, GatewayFamily.IPV6: IPV6}


async def test_a_gateway_that_somebody_changed_is_mended(gateways: GatewayMap, kernel: FakeMap[int, bytes]) -> None:
    gateways.write([IPV4])
    kernel.held[GatewayFamily.IPV4] = packed(OTHER)
    (drift,) = await gateways.look(in_thread)
    assert (drift.part, drift.differences) == ("gateways", ("198.51.100.1 was there, not 10.1.0.1",))
    assert gateways.read() == {GatewayFamily.IPV4: IPV4}


async def test_a_family_that_we_never_wrote_is_not_ours(gateways: GatewayMap, kernel: FakeMap[int, bytes]) -> None:
    gateways.write([IPV4])
    kernel.held[GatewayFamily.IPV6] = packed(OTHER)
    (drift,) = await gateways.look(in_thread)
    assert drift.differences == ()


async def test_a_gateway_written_during_a_look_is_no_difference(gateways: GatewayMap) -> None:
    gateways.write([IPV4])
    moves = iter([OTHER])

    async def read_and_move(read: Callable[[], Any]) -> Any:
        found = read()
        for gateway in moves:
            gateways.write([gateway])
        return found

    (drift,) = await gateways.look(read_and_move)
    assert drift.differences == ()
    assert gateways.read() == {GatewayFamily.IPV4: OTHER}
