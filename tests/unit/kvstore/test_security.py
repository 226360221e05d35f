"""Users, tokens and certificates against a real etcd."""

import asyncio
import subprocess
from contextlib import aclosing
from pathlib import Path

import pytest

from cilia.errors import Unavailable
from cilia.kvstore import EtcdConfig, NotAuthorised, connect_kvstore
from laboratory.servers import Server, start_etcd

USERS = """
user add root:secret
user grant-role root root
user add reader:secret
role add reader
role grant-permission reader --prefix=true read w/
user grant-role reader reader
auth enable
"""


def etcdctl(server: Server, command: str, stdin: str = "") -> None:
    subprocess.run(
        ["etcdctl", "--endpoints", server.address, *command.split()],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/usr/local/bin:/bin"},
        input=stdin.encode(),
        capture_output=True,
        check=True,
    )


@pytest.fixture
def guarded(server: Server) -> Server:
    for command in USERS.strip().splitlines():
        etcdctl(server, command)
    return server


@pytest.mark.parametrize(("user", "password"), [("", ""), ("root", "wrong"), ("nobody", "secret")])
async def test_a_wrong_user_is_named(guarded: Server, user: str, password: str) -> None:
    with pytest.raises(NotAuthorised, match=f"etcd refuses user '{user}'"):
        async with connect_kvstore(EtcdConfig(endpoints=(guarded.address,), user=user, password=password)) as etcd:
            await etcd.get("w/1")


async def test_a_user_without_the_permission_is_named(guarded: Server) -> None:
    async with connect_kvstore(EtcdConfig(endpoints=(guarded.address,), user="reader", password="secret")) as etcd:
        assert await etcd.get("w/1") is None
        with pytest.raises(NotAuthorised, match=r"'reader': .*permission denied"):
            await etcd.put("w/1", b"")
        with pytest.raises(NotAuthorised, match=r"'reader': .*permission denied"):
            await anext(etcd.watch("z/", 1))


async def test_a_token_that_etcd_forgot_is_renewed_under_all_calls_and_watches(guarded: Server) -> None:
    async with connect_kvstore(EtcdConfig(endpoints=(guarded.address,), user="root", password="secret")) as etcd:
        revision = await etcd.put("w/1", b"")
        etcdctl(
            guarded, "--user root:secret user passwd root --interactive=false", stdin="secret\n"
        )  # drops its tokens
        async with asyncio.timeout(30), aclosing(etcd.watch("w/", revision)) as batches:
            assert (await anext(batches)).revision == revision
        etcdctl(guarded, "--user root:secret user passwd root --interactive=false", stdin="secret\n")
        records = await asyncio.gather(*(etcd.get("w/1") for _ in range(30)), etcd.put("w/2", b""))
        assert None not in records


def openssl(directory: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=directory, capture_output=True, check=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and one certificate that serves server and client."""
    directory = tmp_path_factory.mktemp("tls")
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    openssl(directory, f"req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.pem")
    openssl(directory, f"req -new {key.replace(' -days 2', '')} -subj /CN=cilia -keyout one.key -out one.csr")
    openssl(
        directory,
        "x509 -req -in one.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out one.pem",
    )
    return directory


async def test_both_sides_show_certificates(tmp_path: Path, certificates: Path) -> None:
    ca, certificate, key = (certificates / name for name in ("ca.pem", "one.pem", "one.key"))
    options = f"--client-cert-auth --trusted-ca-file {ca} --cert-file {certificate} --key-file {key}".split()
    with start_etcd(tmp_path, options, scheme="https") as server:
        ours = EtcdConfig(endpoints=(server.address,), ca=ca, certificate=certificate, key=key, timeout_seconds=2)
        async with connect_kvstore(ours) as etcd:
            revision = await etcd.put("t", b"x")
            async with aclosing(etcd.watch("t", revision)) as batches:
                assert (await anext(batches)).revision == revision
        with pytest.raises(Unavailable, match=f"etcd at {server.address}"):
            async with connect_kvstore(EtcdConfig(endpoints=(server.address,), ca=ca, timeout_seconds=1)):
                pass
