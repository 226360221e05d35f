"""Changes that name new prefixes, by the services of policy and identity together: the engine runs
once for each, and what is refused leaves nothing that is in use.
"""

import asyncio
import re
from urllib.request import urlopen

import msgspec
import pytest

from cilia.contracts.identities import PREFIX_SCOPE
from cilia.contracts.ids import Identity, NodeName
from cilia.contracts.policies import ApplyPolicies, PoliciesChanged
from cilia.contracts.realisation import Acknowledgement, Realised, WaitRealised
from cilia.errors import Refused
from laboratory.servers import free_port
from laboratory.services import Stage
from tests.services.ask import ask, publish, register

POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: %s, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: db}}, ingress: [{fromCIDR: [%s]}]}
"""
ROOM = 50


def policy(name: str, *prefixes: str) -> str:
    return POLICY % (name, ", ".join(prefixes))


async def apply(stage: Stage, text: str) -> PoliciesChanged:
    return await ask(stage.bus, "policy", "apply", ApplyPolicies(text), PoliciesChanged)


async def resolve(stage: Stage, changed: PoliciesChanged) -> None:
    """Wait until the service has resolved a change; nobody is there to acknowledge it."""
    await ask(stage.bus, "policy", "wait", WaitRealised(changed.revision, 0.01), Realised)


async def tell_room(stage: Stage, entries: int) -> None:
    """Tell how much the policy map of n1 holds, as its agent does."""
    message = Acknowledgement(NodeName("n1"), {}, 0, 0, entries)
    await stage.bus.publish(stage.bus.subjects.ack(message.node), msgspec.json.encode(message))


async def prefixes_of(stage: Stage) -> set[Identity]:
    return {number for number in await stage.identities() if number >= PREFIX_SCOPE}


class Counters:
    """Counters of a policy service, by its metrics."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    async def read(self) -> tuple[int, int]:
        """Return how many changes were resolved, and how many trials of them came in force."""
        text = await asyncio.to_thread(lambda: urlopen(self._url).read().decode())
        found = {name: int(float(value)) for name, value in re.findall(r"^cilia_policy_(\w+)_total (\S+)$", text, re.M)}
        return found["resolutions"], found["trials_adopted"]


async def test_changes_that_name_new_prefixes_are_resolved_once_each_also_at_once(stage: Stage) -> None:
    port = free_port()
    async with (
        stage.inside("ipam"),
        stage.inside("identity"),
        stage.inside("policy", telemetry_listen=f"127.0.0.1:{port}"),
    ):
        incarnation = (await register(stage.bus, "n1")).incarnation
        await publish(stage.bus, "n1", 1, incarnation, "k8s:app=db", "k8s:io.kubernetes.pod.namespace=shop")
        await tell_room(stage, 1000)  # so that nobody waits for an agent's answer, and the order is kept
        counters = Counters(port)
        await resolve(stage, await apply(stage, policy("first", "192.0.2.0/24", "198.51.100.0/24")))
        assert len(await prefixes_of(stage)) == 2
        assert await counters.read() == (1, 1)
        await resolve(stage, await apply(stage, policy("first", "192.0.2.0/24", "203.0.113.0/24")))
        assert await counters.read() == (2, 2)
        known = [policy(f"p{number}", "192.0.2.0/24") for number in range(5)]
        for changed in await asyncio.gather(*(apply(stage, text) for text in known)):
            await resolve(stage, changed)
        assert await counters.read() == (7, 7)


async def test_prefixes_of_a_refused_change_are_collected_as_nobody_uses_them(stage: Stage) -> None:
    async with (
        stage.inside("ipam"),
        stage.inside("identity", gc_seconds="0.5", gc_per_second="2000"),
        stage.inside("policy"),
    ):
        incarnation = (await register(stage.bus, "n1")).incarnation
        await publish(stage.bus, "n1", 1, incarnation, "k8s:app=db", "k8s:io.kubernetes.pod.namespace=shop")
        many = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(300)]
        kept = await apply(stage, policy("kept", many[0]))
        await tell_room(stage, ROOM)
        await resolve(stage, kept)
        with pytest.raises(Refused, match="wants 30"):
            await apply(stage, policy("refused", *many))
        async with asyncio.timeout(60):
            while len(await prefixes_of(stage)) != 1:  # noqa: ASYNC110 - rounds of collection
                await asyncio.sleep(0.2)
