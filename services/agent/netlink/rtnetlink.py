"""Netlink socket: packed requests, in batches, and dumps.

Layouts are those of linux/netlink.h and linux/rtnetlink.h. Every call blocks on RTNL: for the
worker thread only.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_DUMP: Final = 0x300
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_GET_STRICT_CHK: Final = 12
HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
RECEIVE_BYTES: Final = 1 << 18
BATCH: Final = 64
"""Requests sent at once; the receive buffer holds the acknowledgements of some 250."""


DUMP_ATTEMPTS: Final = 10
"""Most readings of what changes while it is read."""


class Message(NamedTuple):
    """One message of the kernel: its header's fields, and what follows."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


class Request(NamedTuple):
    """One message: its type, flags beyond REQUEST and ACK, and what follows the header."""

    kind: int
    flags: int
    body: bytes


class RtNetlink:
    """A socket in the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        for option in (NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def call(self, kind: int, flags: int, body: bytes) -> None:
        """Have the kernel carry one request out.

        Raises:
            OSError: The kernel's answer.
        """
        (error,) = self.call_many([Request(kind, flags, body)])
        if error:
            raise OSError(error, os.strerror(error))

    def call_many(self, requests: Sequence[Request]) -> list[int]:
        """Have the kernel carry requests out, each for itself; return the errno of each, or 0."""
        errors: list[int] = []
        for first in range(0, len(requests), BATCH):
            errors += self._call_batch(requests[first : first + BATCH])
        return errors

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Return what follows the header of each answer to a dump.

        What changes while the kernel walks over it may be missing or there twice; the kernel says
        so, and the dump is repeated.

        Raises:
            OSError: The kernel's answer, such as EINVAL for a filter that it doesn't know; EAGAIN:
                each dump was disturbed.
        """
        for _ in range(DUMP_ATTEMPTS):
            answers = self._dump(kind, body)
            if not any(each.flags & NLM_F_DUMP_INTR for each in answers):
                return [each.payload for each in answers[:-1]]
        raise OSError(errno.EAGAIN, "what was read changed all the time")

    def _dump(self, kind: int, body: bytes) -> list[Message]:
        """Return all answers to a dump, the last of which ends it."""
        self._sequence += 1
        self._send([Request(kind, NLM_F_DUMP, body)], self._sequence, acknowledge=False)
        answers: list[Message] = []
        while not answers or answers[-1].kind not in (NLMSG_DONE, NLMSG_ERROR):
            answers += [each for each in self._receive() if each.sequence == self._sequence]
        (error,) = struct.unpack_from("=i", answers[-1].payload)
        if error:
            raise OSError(-error, os.strerror(-error))
        return answers

    def _call_batch(self, requests: Sequence[Request]) -> list[int]:
        first = self._sequence + 1
        self._sequence += len(requests)
        self._send(requests, first, acknowledge=True)
        errors: dict[int, int] = {}
        while len(errors) < len(requests):
            for answer in self._receive():
                if answer.kind == NLMSG_ERROR and first <= answer.sequence <= self._sequence:
                    (error,) = struct.unpack_from("=i", answer.payload)
                    errors[answer.sequence] = -error
        return [errors[sequence] for sequence in range(first, self._sequence + 1)]

    def _send(self, requests: Sequence[Request], first: int, *, acknowledge: bool) -> None:
        common = NLM_F_REQUEST | (NLM_F_ACK if acknowledge else 0)
        self._socket.send(
            b"".join(
                HEADER.pack(HEADER.size + len(request.body), request.kind, common | request.flags, sequence, 0)
                + request.body
                + bytes(-len(request.body) % 4)
                for sequence, request in enumerate(requests, first)
            )
        )

    def _receive(self) -> Iterator[Message]:
        """Yield the messages of one datagram."""
        datagram = self._socket.recv(RECEIVE_BYTES)
        at = 0
        while at < len(datagram):
            length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, at)
            yield Message(kind, flags, sequence, datagram[at + HEADER.size : at + length])
            at += length + -length % 4


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one ``struct rtattr`` with its payload, padded."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(payload: bytes) -> dict[int, bytes]:
    """Return the attributes in a payload by their kind."""
    found: dict[int, bytes] = {}
    at = 0
    while at + ATTRIBUTE.size <= len(payload):
        length, kind = ATTRIBUTE.unpack_from(payload, at)
        if length < ATTRIBUTE.size:
            break
        found[kind] = payload[at + ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return found
