"""Settings from file, environment and flags."""

from pathlib import Path

import pytest
from msgspec import Struct

from cilia.config import load
from cilia.errors import BadConfig
from cilia.kvstore import EtcdConfig


class Bus(Struct, frozen=True, kw_only=True):
    urls: tuple[str, ...] = ("nats://a",)
    connect_seconds: float = 1.0


class Config(Struct, frozen=True, kw_only=True):
    node: str
    bus: Bus = Bus()
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.node == "bad.name":
            raise ValueError("a node's name has no dots")


def test_what_comes_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "cilia.toml"
    file.write_text('node = "file"\n[bus]\nurls = ["nats://file"]\nconnect_seconds = 3\n')
    environment = {"CILIA_CONFIG": str(file), "CILIA_BUS_URLS": "nats://x, nats://y", "CILIA_VERBOSE": "true"}
    config = load(Config, ["--node", "flag"], environment)
    assert config == Config(node="flag", bus=Bus(urls=("nats://x", "nats://y"), connect_seconds=3.0), verbose=True)


@pytest.mark.parametrize(
    ("argv", "environment", "text"),
    [
        ([], {}, "setting 'node' = None (nowhere): required"),
        (["--node", "a", "--bus-connect-seconds", "soon"], {}, "'bus.connect_seconds' = 'soon' (flag --bus-connect"),
        (["--node", "a"], {"CILIA_VERBOSE": "maybe"}, "(environment CILIA_VERBOSE)"),
        (["--nodes", "a"], {}, "unrecognized arguments"),
        (["--node", "bad.name"], {}, "a node's name has no dots"),
        (["--config", "/nowhere"], {}, "No such file"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_source(
    argv: list[str], environment: dict[str, str], text: str
) -> None:
    with pytest.raises(BadConfig) as error:
        load(Config, argv, environment)
    assert text in str(error.value)


def test_an_unknown_setting_in_the_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "cilia.toml"
    file.write_text('node = "a"\n[bus]\nurl = "nats://typo"\n')
    with pytest.raises(BadConfig, match=r"'bus\.url' = 'nats://typo'.*no such setting"):
        load(Config, ["--config", str(file)], {})


class Deep(Struct, frozen=True, kw_only=True):
    names: tuple[str, ...] = ()
    limits: frozenset[int] = frozenset()
    file: Path | None = None
    bus: Bus = Bus()


@pytest.mark.parametrize(
    ("text", "names"), [("", ()), ("a", ("a",)), ("a, b ,c", ("a", "b", "c")), (",a,,b,", ("a", "b"))]
)
def test_sequences_are_separated_by_commas(text: str, names: tuple[str, ...]) -> None:
    assert load(Deep, ["--names", text], {}).names == names
    assert load(Deep, [], {"CILIA_NAMES": text}).names == names


def test_values_take_the_type_of_their_field() -> None:
    config = load(Deep, ["--limits", "3,1", "--file", "/a/b", "--bus-connect-seconds", "2"], {})
    assert config == Deep(limits=frozenset({1, 3}), file=Path("/a/b"), bus=Bus(connect_seconds=2.0))


def test_a_flag_names_the_file_before_the_environment_does(tmp_path: Path) -> None:
    for name in ("flag", "environment"):
        (tmp_path / name).write_text(f'names = ["{name}"]\n')
    environment = {"CILIA_CONFIG": str(tmp_path / "environment")}
    assert load(Deep, [], environment).names == ("environment",)
    assert load(Deep, ["--config", str(tmp_path / "flag")], environment).names == ("flag",)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cilia.toml"
    file.write_text("names = [")
    with pytest.raises(BadConfig, match=rf"'config' = '{file}' \(file\)"):
        load(Deep, ["--config", str(file)], {})


def test_a_value_where_a_group_belongs_is_no_setting(tmp_path: Path) -> None:
    file = tmp_path / "cilia.toml"
    file.write_text("bus = 7\n")
    with pytest.raises(BadConfig, match=r"'bus' = 7 .*no such setting"):
        load(Deep, ["--config", str(file)], {})


def test_help_names_flag_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(Config, ["--help"], {}, program="cilia-test")
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--bus-connect-seconds VALUE CILIA_BUS_CONNECT_SECONDS; default 1.0" in text
    assert "--node VALUE CILIA_NODE; required" in text


def test_certificates_of_etcd_can_be_given_by_every_way(tmp_path: Path) -> None:
    file = tmp_path / "cilia.toml"
    file.write_text('ca = "/ca.pem"\n')
    config = load(EtcdConfig, ["--config", str(file), "--key", "/key.pem"], {"CILIA_CERTIFICATE": "/certificate.pem"})
    assert (config.ca, config.certificate, config.key) == (
        Path("/ca.pem"),
        Path("/certificate.pem"),
        Path("/key.pem"),
    )
    file.write_text("ca = 7\n")
    with pytest.raises(BadConfig, match=r"'ca' = 7 \(file "):
        load(EtcdConfig, ["--config", str(file)], {})
