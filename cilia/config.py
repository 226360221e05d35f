"""One frozen Struct per service, read once: defaults, then a TOML file, then ``CILIA_*``, then
flags.

A setting's name follows from the Struct: field ``urls`` of the nested Struct under ``nats`` is
``[nats] urls`` in the file, ``CILIA_NATS_URLS`` in the environment and ``--nats-urls`` as a flag.
Sequences are separated by commas there.
"""

import argparse
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from cilia.errors import BadConfig

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class _Setting:
    """A leaf of the Struct's tree."""

    path: tuple[str, ...]
    type: object
    default: object

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return "CILIA_" + "_".join(self.path).upper()

    @property
    def flag(self) -> str:
        return "--" + "-".join(self.path).replace("_", "-")


@dataclass(frozen=True, slots=True)
class _Value:
    raw: object
    source: str


def load(
    config_type: type[C], argv: Sequence[str], environment: Mapping[str, str] | None = None, *, program: str = "cilia"
) -> C:
    """Read the configuration; what comes later wins: defaults, file, environment, flags.

    The file is named by ``--config`` or ``CILIA_CONFIG``.

    Raises:
        BadConfig: A value is of the wrong type, unknown, or missing; names the setting, its value
            and its source.
    """
    environment = os.environ if environment is None else environment
    settings = {setting.path: setting for setting in _settings(config_type)}
    flags = _parse_flags(settings.values(), argv, program)
    path = flags.pop("config", None) or environment.get("CILIA_CONFIG")
    values = dict(_from_file(path, settings)) if path else {}
    for setting in settings.values():
        if setting.variable in environment:
            values[setting.path] = _Value(environment[setting.variable], f"environment {setting.variable}")
        if setting.name in flags:
            values[setting.path] = _Value(flags[setting.name], f"flag {setting.flag}")
    return _build(config_type, (), values)


def _is_group(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _settings(config_type: object, path: tuple[str, ...] = ()) -> Iterator[_Setting]:
    for field in msgspec.structs.fields(config_type):  # type: ignore[arg-type]
        here = (*path, field.name)
        if _is_group(field.type):
            yield from _settings(field.type, here)
        else:
            yield _Setting(here, field.type, field.default)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadConfig("flags", "", source="command line", reason=message)


def _parse_flags(settings: Iterable[_Setting], argv: Sequence[str], program: str) -> dict[str, str]:
    parser = _Parser(prog=program, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings below (CILIA_CONFIG)")
    for setting in settings:
        default = "required" if setting.default is NODEFAULT else f"default {setting.default!r}"
        text = f"{setting.variable}; {default}".replace("%", "%%")
        parser.add_argument(setting.flag, dest=setting.name, metavar="VALUE", help=text)
    return vars(parser.parse_args(argv))


def _from_file(path: str, settings: Mapping[tuple[str, ...], _Setting]) -> Iterator[tuple[tuple[str, ...], _Value]]:
    try:
        document = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfig("config", path, source="file", reason=str(error)) from error
    groups = {setting[:depth] for setting in settings for depth in range(1, len(setting))}
    yield from _walk(document, (), path, settings, groups)


def _walk(
    table: Mapping[str, object],
    at: tuple[str, ...],
    path: str,
    settings: Mapping[tuple[str, ...], _Setting],
    groups: set[tuple[str, ...]],
) -> Iterator[tuple[tuple[str, ...], _Value]]:
    for name, raw in table.items():
        here = (*at, name)
        if here in settings:
            yield here, _Value(raw, f"file {path}")
        elif here in groups and isinstance(raw, dict):
            yield from _walk(raw, here, path, settings, groups)
        else:
            raise BadConfig(".".join(here), raw, source=f"file {path}", reason="no such setting")


def _build(config_type: type[C], path: tuple[str, ...], values: Mapping[tuple[str, ...], _Value]) -> C:
    arguments: dict[str, object] = {}
    for field in msgspec.structs.fields(config_type):  # type: ignore[arg-type]
        here = (*path, field.name)
        if _is_group(field.type):
            arguments[field.name] = _build(field.type, here, values)
        elif here in values:
            arguments[field.name] = _convert(values[here], field.type, ".".join(here))
        elif field.required:
            raise BadConfig(".".join(here), None, source="nowhere", reason="required, and not given")
    try:
        return config_type(**arguments)
    except ValueError as error:
        name = ".".join(path) or "config"
        raise BadConfig(name, arguments, source="check", reason=str(error)) from error


def _convert(value: _Value, kind: object, name: str) -> object:
    raw = value.raw
    if isinstance(raw, str) and get_origin(kind) in (tuple, list, frozenset):
        raw = [part.strip() for part in raw.split(",") if part.strip()]
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=_read_path)
    except msgspec.ValidationError as error:
        raise BadConfig(name, value.raw, source=value.source, reason=str(error)) from error


def _read_path(kind: type, raw: object) -> object:
    if kind is Path and isinstance(raw, str):
        return Path(raw)
    raise msgspec.ValidationError(f"Expected `{kind.__name__}`, got {raw!r}")
