"""Frames as root in a pod can send them: any bytes, from the pod's own device."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cilia.abi.defaults import GATEWAY_MAC
from cilia.netns import inside
from laboratory.layout import netns_path
from laboratory.pod import Pod

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\0", b"\x86\xdd"


class FrameSender:
    """Open packet socket at a pod's device."""

    def __init__(self, pod: Pod, opened: socket.socket) -> None:
        self._socket = opened
        self._head = GATEWAY_MAC + bytes.fromhex(pod.endpoint.mac.replace(":", ""))

    def send(self, packets: Iterable[bytes], prefix: bytes = b"") -> None:
        """Send packets from the IP header on; ``prefix`` is what the socket wants in front."""
        for packet in packets:
            ethertype = ETHERTYPE_IPV6 if packet[0] >> 4 == 6 else ETHERTYPE_IPV4
            self._socket.send(prefix + self._head + ethertype + packet)


@contextmanager
def sending_frames(pod: Pod, *options: tuple[int, int, int]) -> Iterator[FrameSender]:
    """Open a packet socket at a pod's device for the block, with options (level, name, value)."""
    with inside(netns_path(pod.network)):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        for option in options:
            opened.setsockopt(*option)
        with inside(netns_path(pod.network)):
            opened.bind((pod.endpoint.interface, 0))
        yield FrameSender(pod, opened)
    finally:
        opened.close()
