"""Kernel of the node, opened: devices, programs attached, and the threads for calls that block."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from cilia.datapath.errors import DatapathError
from cilia.datapath.objects import LoadedObject
from cilia.metrics import Metrics
from services.agent.change import settle_changes
from services.agent.config import Config, RoutingMode
from services.agent.drift.loop import Look
from services.agent.errors import AgentError, CannotStart
from services.agent.loader.devices import NodeDevices, ensure_devices
from services.agent.loader.drift import ProgramDrift
from services.agent.loader.programs import Programs
from services.agent.metrics.packets import PacketCounters
from services.agent.netlink.tc import TcBlocks
from services.agent.netlink.worker import Worker, open_worker
from services.agent.room import Room


class Kernel(Room):
    """Devices, programs and maps of the node, and what the programs count.

    Attributes:
        links: Thread for what blocks on RTNL.
        readers: Thread for what blocks on an RCU grace period, or reads whole maps.
    """

    def __init__(
        self,
        devices: NodeDevices,
        blocks: TcBlocks,
        programs: Programs,
        objects: LoadedObject,
        links: Worker,
        readers: Worker,
    ) -> None:
        self.devices = devices
        self.blocks = blocks
        self.objects = objects
        self.links = links
        self.readers = readers
        self.packets = PacketCounters(objects)
        self._programs = programs

    def looks(self, pods: Callable[[], Mapping[int, str]]) -> dict[str, Look]:
        """Return the look that repairs what somebody else changed of the programs.

        Args:
            pods: Gives the devices of pods: index -> name.
        """
        return {"programs": ProgramDrift(self._programs, pods, self.links.run).look}

    def measure(self, metrics: Metrics) -> None:
        """Show what became of packets."""
        self.packets.measure(metrics)

    def close(self) -> None:
        """Give programs and maps back; they stay pinned."""
        self.packets.close()
        self.objects.close()


@asynccontextmanager
async def open_kernel(config: Config) -> AsyncIterator[Kernel]:
    """Have devices and programs in place; what a former agent left goes on meanwhile, and after.

    Raises:
        CannotStart: The kernel refuses.
    """
    blocks = TcBlocks(config.block, config.block + 1)
    async with open_worker("links") as links, open_worker("readers") as readers:
        try:
            devices = await links.run(
                ensure_devices,
                underlay_ipv4=config.ipv4,
                uplinks=config.uplinks,
                vxlan_port=config.vxlan_port if config.routing is RoutingMode.OVERLAY else None,
                blocks=blocks,
            )
            programs = Programs(config, devices, blocks)
            objects = await links.run(programs.install)
        except (AgentError, DatapathError, OSError) as error:
            raise CannotStart(str(error)) from error
        kernel = Kernel(devices, blocks, programs, objects, links, readers)
        settle_changes(objects)
        try:
            yield kernel
        finally:
            kernel.close()
