"""Ratio of test lines to source lines, in all and for each area."""

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tools.tree import Source, parse


class Area(StrEnum):
    """Parts of the tree that have tests of their own."""

    AGENT = "agent"
    POLICY = "policy"
    SERVICES = "services"
    COMMANDS = "commands, contracts"
    DATAPATH = "bpf, datapath"
    LIBRARY = "library"
    TOOLS = "tools"
    WHOLE = "whole clusters"
    """Tests of all parts together: clusters, faults, benchmarks."""


SOURCES: Final[Mapping[str, Area]] = {
    "services/agent": Area.AGENT,
    "services/policy": Area.POLICY,
    "cilia/policy": Area.POLICY,
    "services": Area.SERVICES,
    "cilia/commands": Area.COMMANDS,
    "cilia/contracts": Area.COMMANDS,
    "cilia/datapath": Area.DATAPATH,
    "bpf": Area.DATAPATH,
    "cilia": Area.LIBRARY,
    "tools": Area.TOOLS,
}
"""Directory -> area; the first that holds a file decides."""
TEST_DIRECTORIES: Final[Mapping[str, Area]] = {
    "agent": Area.AGENT,
    "policy": Area.POLICY,
    "identity": Area.SERVICES,
    "ipam": Area.SERVICES,
    "recorder": Area.SERVICES,
    "commands": Area.COMMANDS,
    "contracts": Area.COMMANDS,
    "bpf": Area.DATAPATH,
    "datapath": Area.DATAPATH,
    "kvstore": Area.LIBRARY,
    "table": Area.LIBRARY,
    "reconcile": Area.LIBRARY,
    "tools": Area.TOOLS,
}
"""Directory below tests/ -> area that it mirrors; elsewhere a test's imports decide."""
WHOLE: Final = ("tests/cluster", "tests/chaos", "tests/bench")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of one area."""

    source: int = 0
    tests: int = 0
    source_filled: int = 0
    """Lines of the source that aren't blank."""
    tests_filled: int = 0
    """Lines of the tests that aren't blank."""

    @property
    def ratio(self) -> float:
        """Return test lines for each source line, blank ones left out; 0.0 without source."""
        return self.tests_filled / self.source_filled if self.source_filled else 0.0

    def __add__(self, other: "Lines") -> "Lines":
        return Lines(
            self.source + other.source,
            self.tests + other.tests,
            self.source_filled + other.source_filled,
            self.tests_filled + other.tests_filled,
        )


def count(sources: Iterable[Source]) -> dict[Area, Lines]:
    """Count the lines of each area; the laboratory and the bench are neither source nor test."""
    counted = dict.fromkeys(Area, Lines())
    for each in sources:
        total, filled = len(each.lines), sum(bool(line.strip()) for line in each.lines)
        if each.is_test:
            counted[area_of_test(each)] += Lines(tests=total, tests_filled=filled)
        elif each.is_source:
            counted[area_of_source(each.path)] += Lines(source=total, source_filled=filled)
    return counted


def area_of_source(path: str) -> Area:
    """Return the area to which a file outside of tests/ belongs; WHOLE if to none of its own."""
    return next((area for directory, area in SOURCES.items() if path.startswith(f"{directory}/")), Area.WHOLE)


def area_of_test(source: Source) -> Area:
    """Return the area that a file below tests/ is about.

    Its directories tell; if none does, the area whose modules it imports in the most statements.
    """
    for part in source.path.split("/")[1:-1]:
        if part in TEST_DIRECTORIES:
            return TEST_DIRECTORIES[part]
    if source.path.startswith(WHOLE) or not source.is_python:
        return Area.WHOLE
    modules = [node.module for node in ast.walk(parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    areas = Counter(area_of_source(module.replace(".", "/") + "/") for module in modules)
    del areas[Area.WHOLE]
    return areas.most_common(1)[0][0] if areas else Area.WHOLE
