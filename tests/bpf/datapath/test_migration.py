"""Maps that get another layout or size while packets pass: what was known stays known, and nothing
is let through.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.packet import Packet

from cilia.abi.enums import EventKind, Hook, Outcome
from cilia.datapath.conversion import fields_of
from cilia.datapath.descriptor import get_pinned
from cilia.datapath.errors import CannotMigrate, MapFull
from cilia.datapath.features import BPFFS, ensure_bpffs
from cilia.datapath.map_info import open_map_info
from cilia.datapath.map_types import types_of_map
from cilia.datapath.migration import SWITCHING, Migration, recover
from cilia.datapath.objects import NEXT, OBJECTS, LoadedObject, LoadOptions, load
from cilia.datapath.programs import skb_context
from cilia.datapath.raw_map import RawMap
from tests.bpf.datapath.packets import tcp
from tests.bpf.datapath.rig import EGRESS, INGRESS, SIZES, TC_ACT_REDIRECT, TC_ACT_SHOT, A, B, Node, node, populate
from tests.bpf.datapath.variant import SMALLER_NAMES, WIDER_FLOWS, WIDER_POLICY, compile_variant

Entries = dict[bytes, dict[str, int]]


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A later version, with other flows and another policy map."""
    return compile_variant(tmp_path_factory.mktemp("later"), WIDER_FLOWS, WIDER_POLICY)


@pytest.fixture
def pins() -> Iterator[Path]:
    ensure_bpffs()
    directory = BPFFS / f"cilia-test-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def here(pins: Path) -> Iterator[Node]:
    """The version that is there: A may open port 80 of B and nothing else, and one connection
    stands.
    """
    with node(pins=pins) as made:
        populate(made)
        made.allow(A, EGRESS)
        made.allow(B, INGRESS, protocol=6, port=80)
        assert made.run("from_pod", tcp(A, B, 40000), "lxc1").retval == TC_ACT_REDIRECT
        assert made.run("from_pod", tcp(B, A, 80, 40000, flags="SA"), "lxc2").retval == TC_ACT_REDIRECT
        made.events()
        yield made


def load_later(here: Node, file: Path, pins: Path, **sizes: int) -> LoadedObject:
    loading = LoadOptions(here.variables, SIZES | sizes, pin_directory=pins, migrate=True)
    return load(file, loading)


def run(here: Node, objects: LoadedObject, packet: Packet, device: str) -> int:
    """Run a program of ``objects`` as if it were the one in place."""
    with here.namespace.inside():
        context = skb_context(ifindex=here.devices[device])
        return objects.program("from_pod").test_run(bytes(packet), context).retval


def entries(pin: Path) -> Entries:
    """Read a pinned map by the names of its fields, as its own BTF has them."""
    with RawMap(get_pinned(pin), pin.name) as pinned:
        types = types_of_map(pinned.fileno())
        assert types
        fields = list(fields_of(types[1]))
        pairs = ((bytes(key), bytes(value)) for key, value in pinned.pairs())
        return {key: {field.path: field.get(value) for field in fields} for key, value in pairs}


def test_flows_stay_established_and_both_versions_count(here: Node, later: Path, pins: Path) -> None:
    there, back = tcp(A, B, 40000, flags="A"), tcp(B, A, 80, 40000, flags="A")
    ((key, before),) = entries(pins / "cilia_ct4").items()
    with load_later(here, later, pins) as objects:
        migration = Migration(objects, pins)
        migration.copy()
        for _ in range(3):
            here.run("from_pod", there, "lxc1")
        migration.commit()
        for _ in range(5):
            assert run(here, objects, there, "lxc1") == TC_ACT_REDIRECT
        here.run("from_pod", back, "lxc2")
        here.run("from_pod", tcp(A, B, 40000, flags="FA"), "lxc1")
        migration.finish()
        assert run(here, objects, back, "lxc2") == TC_ACT_REDIRECT
        assert here.events() == []
        ((same, after),) = entries(pins / "cilia_ct4").items()
    assert (key, after["fresh"], after["generation"]) == (same, 0, before["generation"])
    sides = [
        sum(each[f"side[{side}].packets"] - before[f"side[{side}].packets"] for each in [after]) for side in (0, 1)
    ]
    assert sorted(sides) == [2, 9]
    assert any(after[f"side[{side}].tcp_flags"] & 1 for side in (0, 1)), "the FIN that the old version saw"


def test_a_flow_that_began_meanwhile_is_known_after(here: Node, later: Path, pins: Path) -> None:
    with load_later(here, later, pins) as objects:
        migration = Migration(objects, pins)
        migration.copy()
        here.run("from_pod", tcp(A, B, 41000), "lxc1")
        migration.commit()
        run(here, objects, tcp(A, B, 42000), "lxc1")
        migration.finish()
        here.events()
        for port in (40000, 41000, 42000):
            assert run(here, objects, tcp(B, A, 80, port, flags="SA"), "lxc2") == TC_ACT_REDIRECT
        assert here.events() == []


def test_the_policy_in_force_is_the_same(here: Node, later: Path, pins: Path) -> None:
    with load_later(here, later, pins) as objects:
        migration = Migration(objects, pins)
        migration.copy()
        for port, verdict in ((80, TC_ACT_REDIRECT), (81, TC_ACT_SHOT)):
            assert run(here, objects, tcp(A, B, 45000, port), "lxc1") == verdict
        migration.commit()
        migration.finish()
        assert run(here, objects, tcp(B, A, 46000), "lxc2") == TC_ACT_SHOT
        assert [event.kind for event in here.events()] == [EventKind.VERDICT, EventKind.DROP, EventKind.DROP]
        assert here.counted(Outcome.FORWARDED, Hook.FROM_POD) == 3


def test_the_new_pins_take_the_place_of_the_old(here: Node, later: Path, pins: Path) -> None:
    ids = {pin.name: open_map_info(pin).id for pin in pins.iterdir()}
    with load_later(here, later, pins) as objects:
        assert {"cilia_ct4", "cilia_ct6", "cilia_policy", "cilia_scratch"} == set(objects.remade)
        migration = Migration(objects, pins)
        migration.copy()
        migration.commit()
        migration.finish()
        remade = set(objects.remade)
    assert {name for name, number in ids.items() if open_map_info(pins / name).id != number} == remade
    assert {pin.name for pin in pins.iterdir()} == ids.keys()
    with load_later(here, later, pins) as again:
        assert again.remade == ()


def test_a_map_that_only_gets_another_size_keeps_its_entries(here: Node, pins: Path) -> None:
    with load_later(here, OBJECTS / "cilia.o", pins, cilia_ct4=8192, cilia_policy=512) as objects:
        assert set(objects.remade) == {"cilia_ct4", "cilia_policy"}
        migration = Migration(objects, pins)
        migration.copy()
        migration.commit()
        migration.finish()
        assert run(here, objects, tcp(B, A, 80, 40000, flags="A"), "lxc2") == TC_ACT_REDIRECT
        assert here.events() == []
    assert open_map_info(pins / "cilia_ct4").max_entries == 8192


def test_a_map_that_is_too_small_leaves_everything_as_it_was(here: Node, pins: Path) -> None:
    ids = {pin.name: open_map_info(pin).id for pin in pins.iterdir()}
    with load_later(here, OBJECTS / "cilia.o", pins, cilia_policy=1) as objects, pytest.raises(MapFull, match="policy"):
        Migration(objects, pins).copy()
    assert {pin.name: open_map_info(pin).id for pin in pins.iterdir()} == ids


def test_a_value_without_a_place_is_named_and_leaves_everything_as_it_was(
    here: Node, pins: Path, tmp_path: Path
) -> None:
    here.allow(A, EGRESS, protocol=17, port=53, cookie=300)
    narrow = compile_variant(tmp_path, SMALLER_NAMES)
    with load_later(here, narrow, pins) as objects, pytest.raises(CannotMigrate, match="cilia_policy: cookie is 300"):
        Migration(objects, pins).copy()
    assert not (pins / NEXT).exists()


def test_a_process_that_died_before_it_committed_changed_nothing(here: Node, later: Path, pins: Path) -> None:
    ids = {pin.name: open_map_info(pin).id for pin in pins.iterdir()}
    with load_later(here, later, pins) as objects:
        Migration(objects, pins).copy()
    recover(pins)
    assert {pin.name: open_map_info(pin).id for pin in pins.iterdir()} == ids


@pytest.mark.parametrize("moved", [0, 1, 4])
def test_one_that_died_later_is_completed(here: Node, later: Path, pins: Path, moved: int) -> None:
    with load_later(here, later, pins) as objects:
        migration = Migration(objects, pins)
        migration.copy()
        migration.commit()
        here.run("from_pod", tcp(A, B, 41000), "lxc1")
        for pin in sorted((pins / SWITCHING).iterdir())[:moved]:
            pin.rename(pins / pin.name)
    recover(pins)
    assert not (pins / SWITCHING).exists()
    here.events()
    with load_later(here, later, pins) as objects:
        assert objects.remade == ()
        ports = (40000,) if moved else (40000, 41000)
        for port in ports:
            assert run(here, objects, tcp(B, A, 80, port, flags="SA"), "lxc2") == TC_ACT_REDIRECT
        assert here.events() == []
        assert run(here, objects, tcp(A, B, 45000, 81), "lxc1") == TC_ACT_SHOT
