"""Links in a network namespace: replaced under traffic without loss, adopted after a death, never
doubled.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cilia.datapath.errors import KernelError, NotPinned
from cilia.datapath.features import has_tcx, missing_features
from cilia.datapath.links import AttachType, Link, ensure_attached
from cilia.datapath.objects import LoadedObject, LoadOptions, load
from tests.bpf.binding.layouts import COUNTS

needs_tcx = pytest.mark.skipif(not has_tcx(), reason="TCX came with Linux 6.6")


@pytest.fixture
def veth() -> Iterator[tuple[str, str]]:
    """A veth pair whose other end, 10.9.9.2, is in a namespace of its own: (device, namespace)."""
    token = secrets.token_hex(3)
    device, namespace = f"tv{token}", f"cilia-test-{token}"
    commands = [
        f"ip netns add {namespace}",
        f"ip link add {device} type veth peer name eth0 netns {namespace}",
        f"ip addr add 10.9.9.1/24 dev {device}",
        f"ip link set {device} up",
        f"ip -n {namespace} addr add 10.9.9.2/24 dev eth0",
        f"ip -n {namespace} link set eth0 up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield device, namespace
    finally:
        subprocess.run(["ip", "link", "del", device], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", namespace], check=False, stderr=subprocess.DEVNULL)


def socket_in(namespace: str) -> socket.socket:
    """Give a UDP socket bound to 10.9.9.2:4242 of another namespace, made by a child that enters
    it.
    """
    ours, theirs = socket.socketpair()
    make = (
        "import socket, sys; made = socket.socket(type=socket.SOCK_DGRAM); made.bind(('10.9.9.2', 4242)); "
        "socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b'.'], [made.fileno()])"
    )
    with ours, theirs:
        enter = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", make, str(theirs.fileno())]
        subprocess.run(enter, pass_fds=[theirs.fileno()], check=True)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=fd)


@needs_tcx
def test_this_kernel_lacks_nothing() -> None:
    assert missing_features() == ()


@needs_tcx
def test_a_program_is_replaced_under_traffic_without_losing_a_packet(
    loaded: LoadedObject, veth: tuple[str, str]
) -> None:
    device, namespace = veth
    ifindex = socket.if_nametoindex(device)
    old, new = loaded.program("pass_old"), loaded.program("pass_new")
    with (
        socket_in(namespace) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        Link.attach(old, AttachType.TCX_EGRESS, ifindex) as link,
        loaded.per_cpu_map(COUNTS) as counts,
    ):
        receiver.settimeout(5)  # a packet that doesn't come is a packet lost
        sender.sendto(b"first", ("10.9.9.2", 4242))
        receiver.recv(16)
        before = sum(pair.packets for _, pair in counts.items())
        stop = threading.Event()

        def swap() -> int:
            swaps = 0
            while not stop.is_set():
                link.update(new if swaps % 2 == 0 else old)
                swaps += 1
            return swaps

        with ThreadPoolExecutor(1) as pool:
            swapping = pool.submit(swap)
            sent, end = 0, time.monotonic() + 1
            try:
                while time.monotonic() < end:
                    sender.sendto(sent.to_bytes(4), ("10.9.9.2", 4242))
                    assert receiver.recv(16) == sent.to_bytes(4)
                    sent += 1
            finally:
                stop.set()
            swaps = swapping.result()
        seen = sum(pair.packets for _, pair in counts.items()) - before
        both = dict(counts.items())
    assert swaps > 100
    assert sent > 100
    assert seen >= sent  # every packet met one program; ARP may add a few
    assert both[1].packets > 1
    assert both[2].packets > 1


@needs_tcx
def test_a_pinned_link_outlives_its_process_and_is_adopted(
    fixture_object: Path, pins: Path, veth: tuple[str, str]
) -> None:
    ifindex = socket.if_nametoindex(veth[0])
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from cilia.datapath.objects import LoadOptions, load\n"
        "from cilia.datapath.links import AttachType, ensure_attached\n"
        "pins = Path(sys.argv[2])\n"
        "loaded = load(Path(sys.argv[1]), LoadOptions(pin_directory=pins))\n"
        "ensure_attached(pins / 'link', loaded.program('pass_old'), AttachType.TCX_INGRESS, int(sys.argv[3]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", script, str(fixture_object), str(pins), str(ifindex)], check=False, cwd=os.getcwd()
    )
    assert died.returncode == -signal.SIGKILL
    with Link.open_pinned(pins / "link") as left:
        before = left.info()
    assert before.ifindex == ifindex
    with load(fixture_object, LoadOptions(pin_directory=pins)) as loaded:
        program = loaded.program("pass_new")
        with ensure_attached(pins / "link", program, AttachType.TCX_INGRESS, ifindex) as adopted:
            after = adopted.info()
    assert after.id == before.id
    assert after.program_id != before.program_id


@needs_tcx
def test_a_link_whose_device_is_gone_is_made_anew(loaded: LoadedObject, pins: Path, veth: tuple[str, str]) -> None:
    device, _ = veth
    program = loaded.program("pass_old")
    first_index = socket.if_nametoindex(device)
    with ensure_attached(pins / "link", program, AttachType.TCX_INGRESS, first_index) as link:
        first = link.info()
    subprocess.run(["ip", "link", "del", device], check=True)
    with Link.open_pinned(pins / "link") as dead:
        assert dead.info().ifindex == 0
    with pytest.raises(KernelError, match=r"attach pass_old at TCX_INGRESS of .*: ENODEV"):
        ensure_attached(pins / "link", program, AttachType.TCX_INGRESS, first_index)
    subprocess.run(["ip", "link", "add", device, "type", "veth", "peer", "name", f"{device}p"], check=True)
    index = socket.if_nametoindex(device)
    with ensure_attached(pins / "link", program, AttachType.TCX_INGRESS, index) as link:
        assert link.info().ifindex == index
        assert link.info().id != first.id


def test_a_detached_link_no_longer_sits_on_its_device(loaded: LoadedObject, veth: tuple[str, str]) -> None:
    ifindex = socket.if_nametoindex(veth[0])
    with Link.attach(loaded.program("shorten"), AttachType.XDP, ifindex) as link:
        assert link.info().ifindex == ifindex
        link.detach()
        assert link.info().ifindex == 0


def test_a_pin_that_is_not_there_is_named(pins: Path) -> None:
    with pytest.raises(NotPinned, match=f"nothing is pinned at {pins}/none"):
        Link.open_pinned(pins / "none")
