"""Commands of a local cluster's processes, and processes ended by pid and start time."""

import subprocess
import sys

import msgspec
import pytest

from cilia.contracts.ids import NodeName
from laboratory.layout import Layout
from laboratory.processes import HEALTH_FLAG, SERVICES, commands, end, kill
from laboratory.procfs import is_running, start_time
from laboratory.state import StartedProcess, UnderlayNode

LAYOUT = Layout("one")
NODES = [UnderlayNode(NodeName(f"node{number}"), f"172.31.0.1{number}") for number in (1, 2)]


def flag(command: tuple[str, ...], name: str) -> str:
    return command[command.index(f"--{name}") + 1]


def test_ground_comes_first_then_services_then_agents() -> None:
    names = list(commands(LAYOUT, NODES, 2, "", {}, {}))
    assert names[:2] == ["etcd", "nats"]
    assert set(names[2:-2]) == {f"service/{service}-{replica}" for service in SERVICES for replica in (1, 2)}
    assert names[-2:] == ["agent/node1", "agent/node2"]


def test_each_runs_in_the_namespace_of_its_own() -> None:
    found = commands(LAYOUT, NODES, 1, "", {}, {})
    assert {name: namespace for name, (namespace, _) in found.items() if name.startswith("agent/")} == {
        "agent/node1": LAYOUT.namespace("node1"),
        "agent/node2": LAYOUT.namespace("node2"),
    }
    assert {namespace for name, (namespace, _) in found.items() if not name.startswith("agent/")} == {LAYOUT.hub}


def test_no_two_processes_answer_for_their_health_at_one_address() -> None:
    found = [command for _, command in commands(LAYOUT, NODES, 5, "", {}, {}).values() if HEALTH_FLAG in command]
    addresses = [command[command.index(HEALTH_FLAG) + 1] for command in found]
    assert len(set(addresses)) == len(addresses) == 5 * len(SERVICES) + len(NODES)


def test_settings_go_to_every_agent_and_to_nobody_else() -> None:
    for name, (_, command) in commands(LAYOUT, NODES, 1, "", {"routing": "native"}, {}).items():
        assert ("--routing" in command) == name.startswith("agent/")


def test_a_collector_is_told_to_all_that_report() -> None:
    for name, (_, command) in commands(LAYOUT, NODES, 1, "http://collector", {}, {}).items():
        if name in ("etcd", "nats"):
            assert "http://collector" not in command
        else:
            assert flag(command, "telemetry-otlp-endpoint") == "http://collector"


def started(*command: str) -> tuple["subprocess.Popen[bytes]", StartedProcess]:
    process = subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process, StartedProcess((), "", process.pid, start_time(process.pid) or 0)


OBEDIENT = "import time; print(flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.mark.parametrize(("code", "number"), [(OBEDIENT, -15), (STUBBORN, -9)], ids=["obeys", "is killed"])
def test_a_process_is_asked_to_end_before_it_is_killed(code: str, number: int) -> None:
    process, record = started(code)
    end([record], grace_seconds=0.3 if number == -9 else 60)
    assert process.wait() == number
    process.stdout.close()  # type: ignore[union-attr]


def test_a_later_process_of_a_recorded_pid_is_spared() -> None:
    process, record = started(OBEDIENT)
    former = msgspec.structs.replace(record, started=record.started - 1)
    end([former])
    kill(former)
    assert is_running(record)
    kill(record)
    assert process.wait() == -9
    process.stdout.close()  # type: ignore[union-attr]


def test_settings_of_a_service_go_to_each_of_its_replicas() -> None:
    found = commands(LAYOUT, NODES, 2, "", {}, {"ipam": {"stale-seconds": "2"}})
    ours = {name for name, (_, command) in found.items() if command[-2:] == ("--stale-seconds", "2")}
    assert ours == {"service/ipam-1", "service/ipam-2"}
