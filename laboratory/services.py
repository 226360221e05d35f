"""Services under test, as processes of their own or inside of the test's, against real servers."""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cilia.bus import Bus
from cilia.config import load
from cilia.contracts.ids import Identity
from cilia.contracts.keys import Keys
from cilia.kvstore import Etcd
from laboratory.servers import Server

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Service:
    """A running replica of a service."""

    process: asyncio.subprocess.Process
    log: Path

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await self.process.wait()

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        async with asyncio.timeout(20):
            return await self.process.wait()


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers, and what is needed to start services against them."""

    cluster: str
    etcd: Server
    nats: Server
    directory: Path
    bus: Bus
    kvstore: Etcd

    async def identities(self) -> set[Identity]:
        """Return the identities in etcd."""
        prefix = Keys(self.cluster).identities
        return {Identity(int(key.removeprefix(prefix))) for key in await self._keys(prefix)}

    async def nodes(self) -> set[str]:
        """Return the names of the nodes in etcd."""
        prefix = Keys(self.cluster).nodes
        return {key.removeprefix(prefix) for key in await self._keys(prefix)}

    async def stale(self) -> set[str]:
        """Return the names of the nodes that are said to be silent."""
        prefix = Keys(self.cluster).stale
        return {key.removeprefix(prefix) for key in await self._keys(prefix)}

    async def pools(self) -> set[str]:
        """Return the names of the pools in etcd."""
        prefix = Keys(self.cluster).pools
        return {key.removeprefix(prefix) for key in await self._keys(prefix)}

    async def endpoints(self) -> set[str]:
        """Return the endpoints in etcd as ``node/id``."""
        prefix = Keys(self.cluster).endpoints
        return {key.removeprefix(prefix) for key in await self._keys(prefix)}

    async def _keys(self, prefix: str) -> list[str]:
        records, _ = await self.kvstore.range(prefix)
        return [record.key for record in records]

    def _variables(self, replica: str, settings: Mapping[str, str]) -> dict[str, str]:
        variables = {"CILIA_CLUSTER": self.cluster, "CILIA_REPLICA": replica}
        variables |= {"CILIA_NATS_URLS": self.nats.url, "CILIA_ETCD_ENDPOINTS": self.etcd.address}
        return variables | {f"CILIA_{key.upper()}": value for key, value in settings.items()}

    @asynccontextmanager
    async def inside(self, name: str, replica: str = "a", **settings: str) -> AsyncIterator[None]:
        """Run a replica of ``services.<name>`` in this process for the block; it starts at once.

        Raises:
            Failure: The service ended by itself.
        """
        running = asyncio.create_task(self.run_inside(name, replica, **settings), name=f"{name}-{replica}")
        try:
            yield
        finally:
            ended = running.done()
            running.cancel()
            outcome = (await asyncio.gather(running, return_exceptions=True))[0]
            if ended and isinstance(outcome, Exception):
                raise outcome

    async def run_inside(self, name: str, replica: str = "a", **settings: str) -> None:
        """Run a replica of ``services.<name>`` in this process until it is cancelled or fails."""
        module = importlib.import_module(f"services.{name}.__main__")
        await module.run(load(module.Config, (), self._variables(replica, settings), program=f"cilia-{name}"))

    @asynccontextmanager
    async def service(self, name: str, replica: str = "a", **settings: str) -> AsyncIterator[Service]:
        """Run a replica of ``services.<name>`` until the block ends."""
        log = self.directory / f"{name}-{replica}.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self._variables(replica, settings)}
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{name}", env=environment, stdout=output, stderr=output, cwd=ROOT
            )
        try:
            yield Service(process, log)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(10):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
            sys.stderr.write(log.read_text())
