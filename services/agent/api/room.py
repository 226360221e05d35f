"""API of the agent: its calls on the socket and on the bus, its health and metrics by HTTP."""

from pathlib import Path

from cilia.calls import serve_node
from cilia.health import serve_health
from cilia.lifecycle import Loop
from cilia.metrics import Metrics
from services.agent.api.calls import Api
from services.agent.api.socket import Socket
from services.agent.api.status import Status
from services.agent.config import Config
from services.agent.endpoint.room import EndpointRoom
from services.agent.ipcache.room import IpcacheRoom
from services.agent.kernel import Kernel
from services.agent.node.room import NodeRoom
from services.agent.policy.room import PolicyRoom
from services.agent.room import Room


class ApiRoom(Room):
    """The ways in which the agent is asked."""

    def __init__(
        self,
        config: Config,
        kernel: Kernel,
        node: NodeRoom,
        endpoints: EndpointRoom,
        policy: PolicyRoom,
        ipcache: IpcacheRoom,
        status: Status,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._bus = node.bus
        self._status = status
        self._metrics = metrics
        api = Api(
            config.node,
            endpoints=endpoints,
            policy=policy.reconciler,
            ipcache=ipcache.reconciler,
            objects=kernel.objects,
            status=status,
        )
        self._calls = api.calls()
        self._socket = Socket(Path(config.socket), self._calls)

    def loops(self) -> dict[str, Loop]:
        """Return the loops that serve."""
        listen = self._config.telemetry.listen
        return {
            "socket": self._socket.run,
            "calls": lambda: serve_node(self._bus, self._config.node, self._calls),
            "health": lambda: serve_health(listen, self._metrics, self._status.degraded),
        }
