"""Loading of objects: configuration by name, pins that are adopted, and errors that name what is
wrong.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cilia.datapath.errors import LoadFailed, MapMismatch, UnknownName, VariableMismatch
from cilia.datapath.maps import Map
from cilia.datapath.objects import LoadedObject, LoadOptions, load
from cilia.datapath.programs import Program, skb_context
from tests.bpf.binding.layouts import HASH

PACKET = bytes(64)


def run(file: Path, program: str, **variables: int | bytes) -> int:
    with load(file, LoadOptions(variables=variables)) as loaded:
        return loaded.program(program).test_run(PACKET).retval


def test_a_constant_has_its_default_until_it_is_set(fixture_object: Path) -> None:
    assert run(fixture_object, "give_answer") == 7
    assert run(fixture_object, "give_answer", answer=42) == 42


def test_an_int_for_a_network_order_constant_is_put_in_network_order(fixture_object: Path) -> None:
    assert run(fixture_object, "give_port", port=0x1234) == int.from_bytes(b"\x12\x34", sys.byteorder)


def test_a_constant_array_takes_bytes(fixture_object: Path) -> None:
    assert run(fixture_object, "give_mac", mac=bytes([1, 2, 3, 4, 5, 6])) == 6


def test_an_unknown_constant_is_named_with_those_that_exist(fixture_object: Path) -> None:
    with pytest.raises(UnknownName, match=r"fixture\.o: no variable 'anwser'; it has answer, mac, port"):
        load(fixture_object, LoadOptions(variables={"anwser": 1}))


@pytest.mark.parametrize(
    ("name", "value"), [("answer", 1 << 32), ("answer", -1), ("answer", b"\0\0"), ("mac", b"12345")]
)
def test_a_value_that_does_not_fit_names_its_variable(fixture_object: Path, name: str, value: int | bytes) -> None:
    with pytest.raises(VariableMismatch, match=f"variable '{name}' has [46] bytes"):
        load(fixture_object, LoadOptions(variables={name: value}))


def test_a_refused_program_is_named_with_the_end_of_the_log(refused_object: Path) -> None:
    with pytest.raises(LoadFailed, match=r"invalid mem access|invalid access to packet") as refused:
        load(refused_object)
    assert refused.value.program == "read_unchecked"
    assert refused.value.errno == 13


def test_a_missing_file_is_an_error_of_loading(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="ENOENT"):
        load(tmp_path / "none.o")


def test_only_the_programs_asked_for_are_loaded(fixture_object: Path) -> None:
    with load(fixture_object, LoadOptions(programs=frozenset({"give_answer"}))) as loaded:
        assert set(loaded.programs) == {"give_answer"}
        with pytest.raises(UnknownName, match="no program 'give_port'; it has give_answer"):
            loaded.program("give_port")


def test_a_map_can_be_loaded_with_another_capacity(fixture_object: Path) -> None:
    with load(fixture_object, LoadOptions(max_entries={"test_hash": 5000})) as loaded, loaded.map(HASH) as entries:
        assert entries.info.max_entries == 5000
        assert entries.memory_bytes > 5000 * 8


def test_every_named_map_is_pinned_and_no_section_of_globals(fixture_object: Path, pins: Path) -> None:
    with load(fixture_object, LoadOptions(pin_directory=pins)):
        pass
    assert {path.name for path in pins.iterdir()} == {
        "test_hash",
        "test_trie",
        "test_words",
        "test_counts",
        "test_ring",
    }


def test_a_load_adopts_maps_that_a_killed_process_pinned(fixture_object: Path, pins: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cilia.datapath.objects import LoadOptions, load\n"
        "from tests.bpf.binding.layouts import HASH\n"
        "loaded = load(Path(sys.argv[1]), LoadOptions(pin_directory=Path(sys.argv[2])))\n"
        "loaded.map(HASH).update(1, 11)\n"
        "loaded.program('give_answer').pin(Path(sys.argv[2]) / 'give_answer')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(fixture_object), str(pins)], check=False, cwd=os.getcwd())
    assert died.returncode == -signal.SIGKILL
    with load(fixture_object, LoadOptions(pin_directory=pins)) as loaded, loaded.map(HASH) as adopted:
        assert adopted.lookup(1) == 11
        with Map.open_pinned(pins, HASH) as pinned:
            assert pinned.info.id == adopted.info.id
    with Program.open_pinned(pins / "give_answer") as program:
        assert program.test_run(PACKET).retval == 7


def test_a_pinned_map_of_another_layout_is_refused_by_name(fixture_object: Path, pins: Path) -> None:
    load(fixture_object, LoadOptions(pin_directory=pins)).close()
    with pytest.raises(MapMismatch, match="map test_hash: max_entries is 100, wanted 200") as refused:
        load(fixture_object, LoadOptions(pin_directory=pins, max_entries={"test_hash": 200}))
    assert refused.value.differences == {"max_entries": (100, 200)}


def test_a_test_run_sees_the_context_it_is_given(loaded: LoadedObject) -> None:
    ran = loaded.program("give_context").test_run(PACKET, skb_context(ifindex=1, mark=5, cb=(2,)))
    assert ran.retval == 2 * 100_000 + 1 * 1000 + 5


def test_an_xdp_test_run_gives_the_packet_as_the_program_left_it(loaded: LoadedObject) -> None:
    packet = bytes(range(64))
    ran = loaded.program("shorten").test_run(packet, repeat=1)
    assert ran.retval == 2
    assert ran.packet == packet[4:]
