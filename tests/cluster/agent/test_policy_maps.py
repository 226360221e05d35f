"""Plans on real maps: an agent that dies after any instruction is followed by one that finishes the
work.
"""

import os
from collections.abc import Iterator, Mapping

import pytest

from cilia.contracts.ids import Identity
from cilia.contracts.tables import PolicyEntry, PolicyKey
from cilia.datapath.objects import LoadedObject, LoadOptions, load
from services.agent.policy.instructions import UNREALISED, AwaitGracePeriod, RealisedPolicy
from services.agent.policy.maps import PolicyMaps
from services.agent.policy.plan import Change, plan
from tools.build import ROOT, compile_bpf

pytestmark = pytest.mark.cluster

ALLOW, DENY = PolicyEntry(False, 1), PolicyEntry(True, 2)


def key(identity: int, port: int = 80) -> PolicyKey:
    return PolicyKey(False, Identity(identity), 6, port, 16)


OLD: dict[int, Mapping[PolicyKey, PolicyEntry]] = {1: {key(0): ALLOW}, 2: {key(300): ALLOW, key(301): ALLOW}}
NEW: dict[int, Mapping[PolicyKey, PolicyEntry]] = {
    1: {key(0): DENY, key(0, 81): ALLOW},
    2: {key(300, 8080): ALLOW, key(301): ALLOW},
}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedObject]:
    if os.geteuid() != 0:
        pytest.skip("needs root for eBPF")
    object_file = tmp_path_factory.mktemp("bpf") / "cilia.o"
    compile_bpf(ROOT / "bpf/cilia.c", object_file)
    with load(object_file, LoadOptions(max_entries={"cilia_ct4": 64, "cilia_ipcache": 64})) as objects:
        yield objects


@pytest.fixture
def maps(objects: LoadedObject) -> Iterator[PolicyMaps]:
    maps = PolicyMaps(objects)
    yield maps
    for slot, found in maps.read().items():
        realise(maps, {slot: {}}, {slot: found.realised})
    maps.close()


def changes(
    desired: dict[int, Mapping[PolicyKey, PolicyEntry]], realised: Mapping[int, RealisedPolicy]
) -> list[Change]:
    return [Change(slot, Identity(slot), realised.get(slot, UNREALISED), entries) for slot, entries in desired.items()]


def realise(
    maps: PolicyMaps, desired: dict[int, Mapping[PolicyKey, PolicyEntry]], realised: Mapping[int, RealisedPolicy]
) -> Mapping[int, RealisedPolicy]:
    steps = plan(changes(desired, realised), policy_epoch=maps.policy_epoch, free=1000)
    maps.perform(step for step in steps.visible + steps.cleanup if not isinstance(step, AwaitGracePeriod))
    return {**realised, **steps.after}


def in_force(maps: PolicyMaps) -> dict[int, Mapping[PolicyKey, PolicyEntry]]:
    return {slot: found.realised.entries for slot, found in maps.read().items() if found.realised.version.shapes}


def test_what_was_realised_is_read_back(maps: PolicyMaps) -> None:
    realise(maps, OLD, {slot: found.realised for slot, found in maps.read().items()})
    assert in_force(maps) == OLD
    assert {slot: maps.read_entries(slot) for slot in OLD} == OLD


@pytest.mark.parametrize("survived", range(12))
def test_after_death_at_any_instruction_the_policy_is_the_old_or_the_new_and_the_successor_finishes(
    maps: PolicyMaps, survived: int
) -> None:
    realised = realise(maps, OLD, {slot: found.realised for slot, found in maps.read().items()})
    steps = plan(changes(NEW, realised), policy_epoch=maps.policy_epoch, free=1000)
    instructions = [step for step in steps.visible + steps.cleanup if not isinstance(step, AwaitGracePeriod)]
    maps.perform(instructions[:survived])
    assert in_force(maps) in (OLD, NEW)
    realise(maps, NEW, {slot: found.realised for slot, found in maps.read().items()})
    assert in_force(maps) == NEW
    assert all(not found.realised.leftover for found in maps.read().values())
