"""The command line as programs and people meet it: exit codes, messages, help.

Nothing of it needs a cluster.
"""

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilia.commands.cli import build_parser
from laboratory.command_line import cilia


def every_parser() -> Iterator[argparse.ArgumentParser]:
    waiting = [build_parser()]
    while waiting:
        parser = waiting.pop()
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting.extend(action.choices.values())


WRONG_USAGE = [
    ((), "COMMAND"),
    (("bogus",), "'bogus'"),
    (("policy",), "VERB"),
    (("policy", "bogus"), "'bogus'"),
    (("policy", "apply"), "-f/--file"),
    (("policy", "wait", "soon"), "'soon'"),
    (("policy", "wait", "--timeout", "soon"), "'soon' is not a time in seconds"),
    (("policy", "wait", "--timeout", "0"), "'0' is not a time in seconds above 0"),
    (("policy", "wait", "--timeout", "nan"), "'nan' is not a time in seconds above 0"),
    (("monitor", "--count", "-3"), "'-3' is not a whole number above 0"),
    (("monitor", "--timeout", "inf"), "'inf' is not a time in seconds above 0"),
    (("map", "get", "--node", "node1", "cilia_ipcache", "--limit", "0"), "'0' is not a whole number above 0"),
    (("map", "list"), "--node"),
    (("identity", "get", "web"), "'web'"),
    (("endpoint", "create", "shop/web", "--node", "node1"), "--netns"),
    (("endpoint", "relabel", "shop/web", "-l", "web"), "'web' is not key=value"),
    (("endpoint", "relabel", "shop/web", "-l", "=web"), "'=web' is not key=value"),
    (("node", "list", "-o", "xml"), "'xml'"),
    (("cluster", "up", "--nodes", "many"), "'many'"),
    (("cluster", "up", "--nodes", "0"), "nodes = 0: a local cluster has 1 to 200"),
    (("cluster", "up", "--nodes", "201"), "nodes = 201"),
    (("cluster", "up", "--replicas", "0"), "replicas = 0: a service has 1 to 5"),
    (("cluster", "up", "--name", "Shop"), "cluster name 'Shop'"),
    (("cluster", "up", "--name", "../etc"), "cluster name '../etc'"),
    (("cluster", "up", "--name", "x" * 33), "at most 32 characters"),
    (("--nats",), "--nats"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_USAGE, ids=lambda value: " ".join(value) if value else "nothing")
def test_wrong_usage_names_what_is_wrong_and_exits_with_2(arguments: tuple[str, ...], said: str) -> None:
    run = cilia(*arguments)
    assert run.returncode == 2, run
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


@pytest.mark.parametrize("verb", ["status", "down"])
def test_a_cluster_that_is_not_there_is_named(verb: str) -> None:
    run = cilia("cluster", verb, "--name", "nowhere")
    assert run.returncode == 1
    assert run.stderr.startswith("cilia: no cluster 'nowhere'; ")
    assert run.stdout == ""


def test_the_global_option_names_the_cluster_for_every_noun() -> None:
    for command in (("status",), ("node", "list"), ("policy", "list"), ("cluster", "down")):
        run = cilia("--cluster", "nowhere", *command)
        assert run.returncode == 1
        assert "no cluster 'nowhere'" in run.stderr, command


def test_a_bus_that_refuses_exits_with_3_and_says_where() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{held.getsockname()[1]}"
        run = cilia("--nats", url, "node", "list")
    assert run.returncode == 3
    assert f"no connection to {url}" in run.stderr
    assert f"connecting to {url}" in run.stderr, "longer than a second, so it says what it waits for"


def test_every_command_has_help_and_every_verb_an_example() -> None:
    for parser in every_parser():
        text = parser.format_help()
        assert parser.description, parser.prog
        is_noun = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
        assert is_noun or "examples:\n  cilia " in text, parser.prog


def test_help_tells_the_exit_codes() -> None:
    assert "exit codes: 0 done, 1 refused or failed, 2 wrong usage or input, 3 no answer in time" in cilia("-h").stdout


def test_the_examples_in_help_parse() -> None:
    for parser in every_parser():
        for line in (parser.epilog or "").splitlines():
            command = line.strip().partition("   ")[0].rpartition("| ")[2].partition(" > ")[0].split()
            if command[:1] == ["cilia"]:
                build_parser().parse_args(command[1:])


def test_the_files_that_help_names_are_there() -> None:
    root = Path(__file__).parents[3]
    for parser in every_parser():
        for word in (parser.epilog or "").split():
            if word.startswith("examples/"):
                assert list((root / word).glob("*.yaml")), f"{parser.prog}: {word}"


def test_the_version_is_the_same_for_people_and_programs() -> None:
    version = json.loads(cilia("version", "-o", "json").stdout)["cilia"]
    assert cilia("version").stdout == f"cilia {version}\n"


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{sys.executable} -m cilia.commands.cli version | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_noun_costs_only_its_own_imports() -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cilia.commands.cli", "version"],
        capture_output=True,
        text=True,
        check=True,
    )
    for module in ("nats", "cilia.policy", "laboratory", "opentelemetry"):
        assert f" {module}\n" not in run.stderr, module
