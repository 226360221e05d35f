"""Certificates and users on the bus, against a real nats-server."""

import asyncio
import os
from pathlib import Path
from typing import Any

import nkeys
import pytest

from cilia.bus import Bus, BusConfig, connect_bus
from cilia.calls import serve
from cilia.contracts.ids import Incarnation, NodeName
from cilia.contracts.ipam import Granted, GrowBlocks
from cilia.errors import Unavailable
from laboratory.servers import Server, start_nats
from tests.unit.bus.test_connection import grow
from tests.unit.kvstore.test_security import certificates

__all__ = ["certificates"]


def guarded(directory: Path, certificates: Path) -> list[str]:
    """Return the options of a server that lets nobody in without a certificate of the authority."""
    one, key, ca = (str(certificates / name) for name in ("one.pem", "one.key", "ca.pem"))
    return ["--tls", "--tlscert", one, "--tlskey", key, "--tlscacert", ca, "--tlsverify", "-P", str(directory / "pid")]


def config(server: Server, **files: Path) -> BusConfig:
    given: dict[str, Any] = {name: str(path) for name, path in files.items()}
    return BusConfig(urls=(server.url.replace("nats:", "tls:"),), connect_seconds=1.5, **given)


async def test_requests_pass_between_those_who_show_certificates(tmp_path: Path, certificates: Path) -> None:
    ca, one, key = (certificates / name for name in ("ca.pem", "one.pem", "one.key"))
    with start_nats(tmp_path, guarded(tmp_path, certificates)) as server:
        ours = config(server, ca_file=ca, certificate_file=one, key_file=key)
        async with connect_bus(ours, cluster="test", name="tests") as bus:
            assert await answered(bus)


async def answered(bus: Bus) -> bool:
    """Serve a call, and make it."""
    serving = asyncio.create_task(serve(bus, "ipam", {"grow": (GrowBlocks, grow)}, concurrency=2))
    try:
        async with asyncio.timeout(5):
            while True:
                try:
                    request = GrowBlocks(NodeName("node1"), Incarnation(7))
                    granted = await bus.request(bus.subjects.request("ipam", "grow"), request, Granted, timeout=1)
                    return granted.cidr == "10.0.0.0/26"
                except Unavailable:  # not subscribed yet
                    await asyncio.sleep(0.02)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_users_are_known_by_their_nkeys(tmp_path: Path) -> None:
    seeds = [nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) for _ in range(2)]
    known = nkeys.from_seed(bytearray(seeds[0])).public_key.decode()
    (tmp_path / "nats.conf").write_text(f"authorization {{users: [{{nkey: {known}}}]}}")
    files = [tmp_path / "known.nk", tmp_path / "stranger.nk"]
    for file, seed in zip(files, seeds, strict=True):
        file.write_bytes(seed)
    with start_nats(tmp_path, ["-c", str(tmp_path / "nats.conf")]) as server:
        ours, others = (BusConfig(urls=(server.url,), connect_seconds=1.5, nkey_seed_file=str(file)) for file in files)
        async with connect_bus(ours, cluster="test", name="tests") as bus:
            assert await answered(bus)
        for config_ in (others, BusConfig(urls=(server.url,), connect_seconds=1.5)):
            with pytest.raises(Unavailable):
                async with connect_bus(config_, cluster="test", name="tests"):
                    pass
