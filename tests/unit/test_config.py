"""Settings from file, environment and flags."""

from pathlib import Path

import pytest
from msgspec import Struct

from cilia.config import load
from cilia.errors import BadConfig


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
