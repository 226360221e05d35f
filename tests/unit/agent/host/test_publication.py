"""Other nodes are told the addresses of this one: once for each change, and until ipam has them."""

import pytest

from cilia.contracts.ids import Incarnation, NodeName, Revision
from cilia.contracts.ipam import TellAddresses
from cilia.contracts.messages import Problem, ProblemCode, Revised
from cilia.errors import Failure, Refused, Unavailable
from services.agent.host import publication
from services.agent.host.publication import AddressPublication
from tests.unit.agent.loops import running, until
from tests.unit.agent.scripted_bus import ScriptedBus
from tests.unit.agent.tables import turns

ME = NodeName("node1")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(publication, pause, 0.0)


class Told:
    """A node whose addresses and incarnation the tests set, and an ipam that fails as they say."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ("192.0.2.1",)
        self.registered_as = Incarnation(7)
        self.failures: list[Failure] = []
        self.bus = ScriptedBus(ipam_addresses=self.answer)
        self.publication = AddressPublication(self.bus.as_bus(), ME, self.incarnation, lambda: self.addresses)

    async def incarnation(self) -> Incarnation:
        return self.registered_as

    def answer(self, _: TellAddresses) -> Revised | Failure:
        return self.failures.pop(0) if self.failures else Revised(Revision(1))

    def heard(self) -> list[tuple[Incarnation, tuple[str, ...]]]:
        return [(request.incarnation, request.addresses) for _, request in self.bus.asked]


async def test_all_addresses_are_told_with_each_change_and_not_without() -> None:
    node = Told()
    async with running(node.publication.run):
        node.publication.renew()
        await until(lambda: len(node.heard()) == 1)
        node.publication.renew()
        await turns()
        node.addresses = ("192.0.2.1", "198.51.100.1")
        node.publication.renew()
        await until(lambda: len(node.heard()) == 2)
    assert node.heard() == [(7, ("192.0.2.1",)), (7, ("192.0.2.1", "198.51.100.1"))]


async def test_a_node_that_was_removed_tells_them_again_under_its_new_incarnation() -> None:
    node = Told()
    node.failures = [Refused(Problem(ProblemCode.NOT_FOUND, "no such incarnation"))]
    async with running(node.publication.run):
        node.publication.renew()
        await until(lambda: bool(node.publication.last_error))
        await turns()
        assert len(node.heard()) == 1, "the next registration tells them"
        node.registered_as = Incarnation(8)
        node.publication.renew()
        await until(lambda: not node.publication.last_error)
    assert node.heard() == [(7, ("192.0.2.1",)), (8, ("192.0.2.1",))]


async def test_they_are_told_until_ipam_has_them_and_then_as_they_are_by_then() -> None:
    node = Told()
    node.failures = [Unavailable("ipam", "nobody answers"), Refused(Problem(ProblemCode.CONFLICT, "contended"))]
    async with running(node.publication.run):
        node.publication.renew()
        await until(lambda: len(node.heard()) == 1)
        node.addresses = ("198.51.100.1",)
        await until(lambda: len(node.heard()) == 3 and not node.publication.last_error)
    assert node.heard()[-1] == (7, ("198.51.100.1",))
