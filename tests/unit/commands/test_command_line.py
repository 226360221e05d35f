"""The command line as programs and people meet it: exit codes, messages, help.

No test here needs a cluster, and one starts a process.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cilia.commands.cli import build_parser
from cilia.commands.output import note
from cilia.errors import Failure, Unavailable
from tests.unit.commands.fake_cluster import Run

Cilia = Callable[..., Run]


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
def test_wrong_usage_names_what_is_wrong_and_exits_with_2(cilia: Cilia, arguments: tuple[str, ...], said: str) -> None:
    run = cilia(*arguments)
    assert run.code == 2, run
    assert said in run.err
    assert "Traceback" not in run.err
    assert run.out == ""


@pytest.mark.parametrize("verb", ["status", "down"])
def test_a_cluster_that_is_not_there_is_named(cilia: Cilia, verb: str) -> None:
    run = cilia("cluster", verb, "--name", "nowhere")
    assert run.code == 1
    assert run.err.startswith("cilia: no cluster 'nowhere'; ")
    assert run.out == ""


def test_the_global_option_names_the_cluster_for_every_noun(cilia: Cilia) -> None:
    for command in (("status",), ("node", "list"), ("policy", "list"), ("cluster", "down")):
        run = cilia("--cluster", "nowhere", *command)
        assert run.code == 1
        assert "no cluster 'nowhere'" in run.err, command


def test_a_bus_that_refuses_exits_with_3_and_says_where(cilia: Cilia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cilia.commands.session.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("cilia.commands.output.PATIENCE_SECONDS", 0.1)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{held.getsockname()[1]}"
        run = cilia("--nats", url, "node", "list")
    assert run.code == 3
    assert f"no connection to {url}" in run.err
    assert f"connecting to {url}" in run.err, "it takes long, so it says what it waits for"


def test_every_command_has_help_and_every_verb_an_example() -> None:
    for parser in every_parser():
        text = parser.format_help()
        assert parser.description, parser.prog
        is_noun = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
        assert is_noun or "examples:\n  cilia " in text, parser.prog


def test_help_tells_the_exit_codes(cilia: Cilia) -> None:
    assert "exit codes: 0 done, 1 refused or failed, 2 wrong usage or input, 3 no answer in time" in cilia("-h").out


def test_the_examples_in_help_parse() -> None:
    whole = build_parser()
    for parser in every_parser():
        for line in (parser.epilog or "").splitlines():
            command = line.strip().partition("   ")[0].rpartition("| ")[2].partition(" > ")[0].split()
            if command[:1] == ["cilia"]:
                whole.parse_args(command[1:])


def test_the_files_that_help_names_are_there() -> None:
    root = Path(__file__).parents[3]
    for parser in every_parser():
        for word in (parser.epilog or "").split():
            if word.startswith("examples/"):
                assert list((root / word).glob("*.yaml")), f"{parser.prog}: {word}"


def test_the_version_is_the_same_for_people_and_programs(cilia: Cilia) -> None:
    version = cilia("version", "-o", "json").json["cilia"]
    assert cilia("version").out == f"cilia {version}\n"


def test_a_process_imports_what_its_noun_needs_and_leaves_quietly_if_its_reader_has_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-X", "importtime", "-m", "cilia.commands.cli", "version"]
    run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(writer)
    assert run.returncode == 0
    assert [line for line in run.stderr.splitlines() if not line.startswith("import time:")] == []
    for module in ("nats", "cilia.policy", "laboratory", "opentelemetry"):
        assert f" {module}\n" not in run.stderr, module


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Failure("the disk is full"), 1, "cilia: the disk is full\n"),
        (Unavailable("etcd", "no answer"), 3, "cilia: etcd is unavailable: no answer\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=["a failure", "what is unavailable", "^C"],
)
def test_how_a_command_ends_is_its_exit_code(
    cilia: Cilia, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    def fail(_: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr("cilia.commands.version.show", fail)
    run = cilia("version")
    assert (run.code, run.out, run.err) == (code, "", said)


def test_a_bug_keeps_its_traceback(cilia: Cilia, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: argparse.Namespace) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("cilia.commands.version.show", fail)
    with pytest.raises(KeyError):
        cilia("version")


def test_a_command_may_return_nothing_or_its_exit_code(cilia: Cilia, monkeypatch: pytest.MonkeyPatch) -> None:
    for returned, code in ((None, 0), (0, 0), (1, 1), (3, 3)):
        monkeypatch.setattr("cilia.commands.version.show", lambda _, value=returned: value)
        assert cilia("version").code == code


@pytest.mark.parametrize(
    "words",
    [
        ("version",),
        ("--cluster", "x", "version"),
        ("--cluster=x", "version"),
        ("--nats", "nats://n", "--cluster", "x", "version"),
    ],
    ids=" ".join,
)
def test_global_options_stand_before_the_noun_in_any_form(cilia: Cilia, words: tuple[str, ...]) -> None:
    assert cilia(*words).code == 0


def test_a_result_and_a_note_go_different_ways(capsys: pytest.CaptureFixture[str]) -> None:
    note("beside it")
    print("result")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("result\n", "beside it\n")


def test_every_argument_has_help() -> None:
    for parser in every_parser():
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                assert action.help, f"{parser.prog}: {action.dest}"


def test_help_has_no_default_that_is_not_filled_in() -> None:
    for parser in every_parser():
        assert "%(" not in parser.format_help(), parser.prog


def test_every_verb_that_prints_a_result_prints_json_too() -> None:
    without = {
        parser.prog
        for parser in every_parser()
        if not any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
        and "--output" not in parser._option_string_actions
    }
    assert without == {
        "cilia cluster up",
        "cilia cluster down",
        "cilia endpoint delete",
        "cilia node delete",
        "cilia policy verdicts",  # JSON only
    }


def test_help_is_within_a_terminals_width() -> None:
    for parser in every_parser():
        for line in (parser.epilog or "").splitlines():
            assert len(line) <= 100, f"{parser.prog}: {line}"


def test_json_of_the_version_is_one_object(cilia: Cilia) -> None:
    assert list(json.loads(cilia("version", "-o", "json").out)) == ["cilia"]


def test_summaries_are_sentences_without_an_end() -> None:
    for parser in every_parser():
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for choice in action._choices_actions:
                    assert re.fullmatch(r"\S.*[^.]", choice.help or ""), f"{parser.prog} {choice.dest}"
