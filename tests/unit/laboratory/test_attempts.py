"""Attempts against the small servers, over loopback."""

import socket

from laboratory.attempts import get, reaches_tcp, reaches_udp
from laboratory.echo_servers import echoing, serve_http
from laboratory.machine import Machine
from laboratory.servers import free_port

HERE = ("127.0.0.1", "::1")


class Loopback(Machine):
    """This machine, without a namespace of its own."""

    def open_socket(self, kind: socket.SocketKind, protocol: int = 0, *, to: str = "") -> socket.socket:
        opened = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, kind, protocol)
        opened.setblocking(False)
        return opened


def machine(name: str) -> Machine:
    return Loopback(name=name, ipv4=HERE[0], ipv6=HERE[1], network="")


async def test_what_is_served_is_reached_by_both_families_and_nothing_else() -> None:
    client, server, tcp, udp = machine("client"), machine("server"), free_port(), free_port()
    async with echoing([server], tcp=(tcp,), udp=(udp,)):
        for address in HERE:
            assert await reaches_tcp(client, address, tcp, seconds=10)
            assert await reaches_udp(client, address, udp, size=9000, seconds=10)
            assert not await reaches_tcp(client, address, udp, seconds=10)
    for address in HERE:
        assert not await reaches_tcp(client, address, tcp, seconds=10)
    assert server.sockets == []


async def test_a_small_server_answers_with_its_name() -> None:
    client, server, port = machine("client"), machine("shop/web"), free_port()
    async with await serve_http(server, port):
        assert await get(client, HERE[0], port, seconds=10) == "shop/web"
    server.close()
    assert await get(client, HERE[0], port, seconds=10) is None


def test_a_machine_of_one_family_has_one_address() -> None:
    assert machine("both").addresses == HERE
    assert Machine(name="one", ipv4="192.0.2.1", network="").addresses == ("192.0.2.1",)
