"""A stranger on the nodes' network: it is not the host, whatever its packets say."""

import socket

import pytest

from laboratory.cluster import LocalCluster
from laboratory.policies import Policies
from laboratory.pool import Configuration
from laboratory.stranger import stranger_on
from tests.cluster.attacks.datagrams import HOST_ONLY, PORT, datagram, only_honest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["overlay", "native"])
def configuration(request: pytest.FixtureRequest) -> Configuration:
    return Configuration(nodes=2, routing=request.param)


async def test_a_nodes_own_address_lets_nobody_into_its_pods(cluster: LocalCluster, policies: Policies) -> None:
    server = cluster.pod("node1", "shop", "server", {"app": "server"})
    policies.apply(HOST_ONLY)
    host, listener = cluster.host("node1"), server.listen(PORT, socket.SOCK_DGRAM)
    with stranger_on(cluster) as stranger:
        for own, address in zip(host.addresses, server.addresses, strict=True):
            await only_honest(listener, host, address)
            stranger.send("node1", datagram(own, address))
            await only_honest(listener, host, address)
