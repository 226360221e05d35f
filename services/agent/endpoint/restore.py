"""Restoration of endpoints: the kernel and the records of a former agent, brought together."""

import logging

from cilia.netns import NoNetworkNamespace
from services.agent.endpoint.lifecycle import EndpointLifecycle
from services.agent.endpoint.parts import Parts
from services.agent.endpoint.stages import Restoration, restoration
from services.agent.endpoint.store import Pod
from services.agent.errors import AgentError, UnknownBlock

log = logging.getLogger(__name__)


async def restore(parts: Parts, lifecycle: EndpointLifecycle) -> None:
    """Keep what is in force, make anew links that a reboot took, remove what no record names."""
    stale = set(parts.table.entries)
    for pod in parts.endpoints:
        try:
            parts.pool.claim(pod.addresses)
        except UnknownBlock as error:
            log.debug("%s", error)
        connected = await _connected(pod, parts, lifecycle)
        if connected is None:
            await lifecycle.disconnect(pod)
        elif connected.identity:
            stale.difference_update(connected.numbers)
            lifecycle.enter(connected)
    for address in stale:
        parts.table.remove(address)


async def _connected(pod: Pod, parts: Parts, lifecycle: EndpointLifecycle) -> Pod | None:
    """Return a recorded pod with its link; None: it has to go."""
    match restoration(pod, await parts.links.ifindex(pod.host_interface)):
        case Restoration.KEEP:
            return pod
        case Restoration.DISCONNECT:
            return None
        case Restoration.CONNECT:
            try:
                pod = await lifecycle.link(pod)
            except (AgentError, NoNetworkNamespace) as error:
                log.warning("endpoint %s is gone: %s", pod.full_name, error)
                return None
            lifecycle.keep(pod)
            return pod
