"""Small values: clocks, contexts of test runs, sums over CPUs, and the texts of errors."""

import errno
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilia.abi.structs import Metric
from cilia.datapath.clock import UnixClock, ktime_ns
from cilia.datapath.errors import (
    ENOTSUPP,
    CannotMigrate,
    KernelError,
    LoadFailed,
    MapError,
    MapFull,
    MapMismatch,
    NotPinned,
    UnknownName,
    VariableMismatch,
    describe,
)
from cilia.datapath.features import is_bpffs, kernel_version
from cilia.datapath.per_cpu_map import added
from cilia.datapath.programs import skb_context

OBJECT = Path("/somewhere/cilia.o")


def test_ktime_grows_and_becomes_unix_time_by_a_constant_distance() -> None:
    clock = UnixClock(offset_ns=1_000)
    earlier, later = ktime_ns(), ktime_ns()
    assert later >= earlier
    assert clock.unix_ns(later) - clock.unix_ns(earlier) == later - earlier
    assert clock.unix_ns(0) == 1_000


def test_a_clock_taken_now_turns_ktime_into_the_date() -> None:
    assert UnixClock.now().unix_ns(ktime_ns()) > 1_700_000_000 * 10**9


def test_a_context_places_its_fields_where_the_kernel_reads_them() -> None:
    """Offsets of struct __sk_buff in linux/bpf.h."""
    context = skb_context(ifindex=3, ingress_ifindex=4, mark=5, cb=(6, 7), gso_size=8)
    fields = {"mark": 8, "ingress_ifindex": 36, "ifindex": 40, "cb[0]": 48, "cb[1]": 52, "cb[2]": 56, "gso_size": 176}
    read = {name: struct.unpack_from("=I", context, offset)[0] for name, offset in fields.items()}
    assert read == {
        "mark": 5,
        "ingress_ifindex": 4,
        "ifindex": 3,
        "cb[0]": 6,
        "cb[1]": 7,
        "cb[2]": 0,
        "gso_size": 8,
    }
    assert sum(map(bool, context)) == 6


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), min_size=1, max_size=8))
def test_structs_of_cpus_are_added_field_by_field(values: list[tuple[int, int]]) -> None:
    total = added([Metric(*value) for value in values])
    assert total == Metric(sum(one for one, _ in values), sum(other for _, other in values))
    assert added([one for one, _ in values]) == total.packets


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KernelError("pin /x", errno.EEXIST), "pin /x: EEXIST: File exists"),
        (KernelError("attach", ENOTSUPP), "attach: ENOTSUPP: Not supported by the kernel"),
        (LoadFailed(OBJECT, "", errno.EINVAL, " \n"), "load cilia.o: EINVAL: Invalid argument"),
        (
            LoadFailed(OBJECT, "from_pod", errno.EACCES, "R1 invalid\n"),
            "load cilia.o, program from_pod: EACCES: Permission denied\nR1 invalid",
        ),
        (MapError("flows", "walk", errno.EPERM), "map flows: walk: EPERM: Operation not permitted"),
        (
            MapFull("flows", 64, errno.E2BIG, key=b"\1\2", done=7),
            "map flows: update, key 0102: E2BIG: Argument list too long (full: 64 entries, 7 of the batch written)",
        ),
        (NotPinned(Path("/pins/flows")), "nothing is pinned at /pins/flows"),
        (
            MapMismatch("flows", {"key_size": (4, 8), "kind": (1, 9)}),
            "map flows: key_size is 4, wanted 8, kind is 1, wanted 9",
        ),
        (CannotMigrate("flows", "packets is 256"), "map flows: packets is 256"),
        (
            UnknownName(OBJECT, "variable", "mtu", ["node_ipv4", "is_native"]),
            "cilia.o: no variable 'mtu'; it has is_native, node_ipv4",
        ),
        (UnknownName(OBJECT, "map", "flows", []), "cilia.o: no map 'flows'; it has none"),
        (
            VariableMismatch(OBJECT, "gateway_mac", 6, b"12345"),
            "cilia.o: variable 'gateway_mac' has 6 bytes, and 5 bytes doesn't fit",
        ),
        (VariableMismatch(OBJECT, "port", 2, 1 << 16), "cilia.o: variable 'port' has 2 bytes, and 65536 doesn't fit"),
    ],
)
def test_an_error_names_what_failed_where_and_why(error: Exception, text: str) -> None:
    assert str(error) == text


def test_an_errno_without_a_name_keeps_its_number() -> None:
    assert describe(4095).startswith("4095: ")


@pytest.mark.parametrize(
    ("release", "expected"),
    [("6.1.0-18-amd64", (6, 1)), ("6.12", (6, 12)), ("6.18.44-fc", (6, 18)), ("7.0-rc1", (7, 0))],
)
def test_the_kernels_version_is_its_first_two_numbers(
    monkeypatch: pytest.MonkeyPatch, release: str, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(release=release))
    assert kernel_version() == expected


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ("", False),
        ("bpf /sys/fs/bpf bpf rw 0 0\n", True),
        ("tmpfs /sys/fs/bpf tmpfs rw 0 0\n", False),
        ("bpf /sys/fs/bpf bpf rw 0 0\ntmpfs /sys/fs/bpf tmpfs rw 0 0\n", False),
        ("tmpfs /sys/fs/bpf tmpfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n", True),
        ("bpf /sys/fs/bpf/other bpf rw 0 0\n", False),
    ],
)
def test_the_last_mount_at_a_path_counts(monkeypatch: pytest.MonkeyPatch, mounts: str, expected: bool) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _self: mounts)
    assert is_bpffs(Path("/sys/fs/bpf")) is expected
