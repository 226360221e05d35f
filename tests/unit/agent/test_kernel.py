"""The kernel, opened and given back; what it refuses is one clear error."""

from typing import Any, cast

import pytest

from cilia.contracts.ids import NodeName
from cilia.datapath.errors import DatapathError
from services.agent import kernel as module
from services.agent.config import Config, RoutingMode
from services.agent.errors import CannotStart, LinkFailed
from services.agent.kernel import open_kernel
from services.agent.loader.devices import NodeDevices

DEVICES = NodeDevices(host=2, net=3, vxlan=4, uplinks=(5,), mtu_bytes=1450)


class FakeObjects:
    def __init__(self) -> None:
        self.closed: list[str] = []

    def per_cpu_map(self, _layout: object) -> Any:
        return self

    def close(self) -> None:
        self.closed.append("closed")


class Setting:
    """Calls that opening the kernel makes, with failures to order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.objects = FakeObjects()
        self.asked: dict[str, Any] = {}
        self.devices_error: Exception | None = None
        self.install_error: Exception | None = None
        self.repaired: list[dict[int, str]] = []
        self.settled: list[Any] = []
        monkeypatch.setattr(module, "ensure_devices", self._ensure_devices)
        monkeypatch.setattr(module, "Programs", lambda *_: self)
        monkeypatch.setattr(module, "settle_changes", self.settled.append)

    def _ensure_devices(self, **asked: Any) -> NodeDevices:
        self.asked = asked
        if self.devices_error is not None:
            raise self.devices_error
        return DEVICES

    def install(self) -> Any:
        if self.install_error is not None:
            raise self.install_error
        return self.objects

    def repair(self, pods: dict[int, str]) -> list[str]:
        self.repaired.append(pods)
        return ["lxc1 was bound to none"]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def config(**settings: Any) -> Config:
    return Config(node=NodeName("node1"), ipv4="192.0.2.1", **settings)


async def test_devices_and_programs_are_there_for_the_block_and_given_back_after_it(setting: Setting) -> None:
    async with open_kernel(config(block=7, uplinks=("eth0",))) as kernel:
        assert (kernel.devices, kernel.blocks) == (DEVICES, (7, 8))
        assert cast(Any, kernel.objects) is setting.objects
        assert setting.objects.closed == []
    assert setting.asked == {"underlay_ipv4": "192.0.2.1", "uplinks": ("eth0",), "vxlan_port": 8472, "blocks": (7, 8)}
    assert len(setting.objects.closed) == 2


async def test_native_routing_asks_for_no_overlay(setting: Setting) -> None:
    async with open_kernel(config(routing=RoutingMode.NATIVE)):
        assert setting.asked["vxlan_port"] is None


@pytest.mark.parametrize(
    "error",
    [LinkFailed("creation", "cilia_*", "", "no"), DatapathError("the verifier says no"), PermissionError(1, "no")],
)
@pytest.mark.parametrize("step", ["devices_error", "install_error"])
async def test_what_the_kernel_refuses_is_a_start_that_cannot_be(setting: Setting, step: str, error: Exception) -> None:
    setattr(setting, step, error)
    with pytest.raises(CannotStart) as caught:
        async with open_kernel(config()):
            pytest.fail("it opened")
    assert str(error) in str(caught.value)
    assert caught.value.__cause__ is error


async def test_a_bug_is_not_taken_for_a_refusal(setting: Setting) -> None:
    setting.install_error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        async with open_kernel(config()):
            pytest.fail("it opened")


async def test_it_is_given_back_also_when_the_agent_fails(setting: Setting) -> None:
    with pytest.raises(RuntimeError, match="a loop failed"):
        async with open_kernel(config()):
            raise RuntimeError("a loop failed")
    assert setting.objects.closed


async def test_its_look_repairs_the_programs_at_the_pods_devices(setting: Setting) -> None:
    async with open_kernel(config()) as kernel:
        (look,) = kernel.looks(lambda: {7: "lxc1"}).values()
        (drift,) = await look()
    assert setting.repaired == [{7: "lxc1"}]
    assert (drift.part, tuple(drift.differences)) == ("programs", ("lxc1 was bound to none",))
