from pathlib import Path

import msgspec
import pytest

from cilia.contracts.agent import EndpointReference
from cilia.contracts.ids import EndpointId, Identity
from services.agent.address import number
from services.agent.endpoint.store import LAST_ID, Endpoints, Pod, PodFiles
from services.agent.errors import NameTaken, NoEndpointId, UnknownEndpoint


def pod(number: int, name: str = "web", identity: int = 300) -> Pod:
    return Pod(
        id=EndpointId(number),
        namespace="default",
        name=name,
        netns=f"/run/netns/{name}",
        interface="eth0",
        host_interface=f"lxc{number}",
        mac="02:00:00:00:00:01",
        ipv4="10.1.0.2",
        gateway="10.1.0.1",
        labels=("k8s:app=web",),
        identity=Identity(identity),
    )


def test_a_pod_is_found_by_id_and_by_name() -> None:
    endpoints = Endpoints([pod(7)])
    assert endpoints.find(EndpointReference(id=EndpointId(7))) == pod(7)
    assert endpoints.find(EndpointReference(namespace="default", name="web")) == pod(7)


def test_an_unknown_pod_is_named() -> None:
    with pytest.raises(UnknownEndpoint, match="name 'default/db'"):
        Endpoints().find(EndpointReference(namespace="default", name="db"))


def test_two_pods_of_one_name_are_refused() -> None:
    endpoints = Endpoints([pod(7)])
    with pytest.raises(NameTaken, match="default/web"):
        endpoints.put(pod(8))


def test_an_id_is_not_given_out_again_at_once() -> None:
    endpoints = Endpoints([pod(7)])
    endpoints.remove(EndpointId(7))
    assert endpoints.next_id() == 8


def test_ids_begin_anew_after_the_last_and_pass_over_those_in_use() -> None:
    endpoints = Endpoints([pod(LAST_ID), pod(1, "db")])
    assert endpoints.next_id() == 2


def test_when_all_ids_are_in_use_there_is_none() -> None:
    endpoints = Endpoints(pod(number, f"p{number}") for number in range(1, LAST_ID + 1))
    with pytest.raises(NoEndpointId):
        endpoints.next_id()


def test_identities_are_those_of_the_pods() -> None:
    endpoints = Endpoints([pod(1), pod(2, "db", 301), pod(3, "new", 0)])
    assert endpoints.identities() == {300, 301}


def test_a_pod_comes_back_from_its_file(tmp_path: Path) -> None:
    files = PodFiles(tmp_path)
    files.save(pod(7))
    files.save(msgspec.structs.replace(pod(7), ifindex=12))
    assert PodFiles(tmp_path).load() == [msgspec.structs.replace(pod(7), ifindex=12)]
    files.remove(EndpointId(7))
    assert files.load() == []


def test_an_interrupted_save_leaves_the_former_record(tmp_path: Path) -> None:
    files = PodFiles(tmp_path)
    files.save(pod(7))
    (tmp_path / "7.new").write_text("{half")
    assert files.load() == [pod(7)]


def test_a_pod_has_what_it_was_given_of_each_family() -> None:
    dual = msgspec.structs.replace(pod(7), ipv6="fd00:1::2", gateway_ipv6="fd00:1::1")
    assert pod(7).gateways == (("10.1.0.2", "10.1.0.1"),)
    assert dual.gateways == (("10.1.0.2", "10.1.0.1"), ("fd00:1::2", "fd00:1::1"))
    assert dual.numbers == (number("10.1.0.2"), number("fd00:1::2"))


def test_a_record_of_a_former_version_is_read(tmp_path: Path) -> None:
    files = PodFiles(tmp_path)
    files.save(pod(7))
    old = {name: value for name, value in msgspec.to_builtins(pod(7)).items() if "ipv6" not in name}
    (tmp_path / "7.json").write_bytes(msgspec.json.encode(old))
    assert files.load() == [pod(7)]
