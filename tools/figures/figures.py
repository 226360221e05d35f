"""Figures of one tree, and the places that they are made of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.figures.copies import Copy, copies
from tools.figures.layers import Contracts, contracts, cycles, imports, rooms
from tools.figures.passages import Kind, Passage, passages
from tools.figures.prose import lacks_noun, wide_lines
from tools.figures.ratio import Area, Lines, count
from tools.figures.sizes import Function, broad_handlers, functions
from tools.figures.walks import PAGE, Walk, walks, wrong_steps
from tools.tree import Source, read_tree


@dataclass(frozen=True, slots=True)
class Place:
    """One line of one file."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Measures of one tree."""

    files: dict[str, int] = field(default_factory=dict)
    """Path -> lines, of files that aren't empty, tests apart."""
    test_files: dict[str, int] = field(default_factory=dict)
    functions: Sequence[Function] = ()
    contracts: Contracts | None = None
    rooms: Counter[str] = field(default_factory=Counter)
    cycles: Sequence[tuple[str, ...]] = ()
    passages: Counter[Kind] = field(default_factory=Counter)
    openings: Sequence[tuple[Kind, Place]] = ()
    """Passages that lack their noun."""
    wide: Sequence[Place] = ()
    """Lines of prose that are too wide."""
    lines: dict[Area, Lines] = field(default_factory=dict)
    copies: Sequence[Copy] = ()
    broad_handlers: int = 0
    """Handlers in the source that catch every exception."""
    walks: Sequence[Walk] = ()
    wrong_steps: Sequence[Place] = ()
    """Steps of walks that name a file that isn't there, or twice."""

    @property
    def total(self) -> Lines:
        """Return the lines of all areas."""
        return sum(self.lines.values(), Lines())


def measure(root: Path) -> Figures:
    """Measure the tree below ``root``, its layers and walks too."""
    page = root / PAGE
    return measure_sources(read_tree(root), contracts(root), page.read_text() if page.exists() else "")


def measure_sources(sources: Sequence[Source], kept: Contracts | None = None, page: str = "") -> Figures:
    """Measure files, and the page with the walks; pure."""
    paths, ways = {each.path for each in sources}, walks(page)
    prose = {source: list(passages(source)) for source in sources}
    found = [(passage.kind, _place(passage)) for each in prose.values() for passage in each if lacks_noun(passage)]
    wide = [
        Place(source.path, number, source.lines[number - 1].strip())
        for source, each in prose.items()
        for number in wide_lines(source, each)
    ]
    return Figures(
        files={each.path: len(each.lines) for each in sources if each.text and not each.is_test},
        test_files={each.path: len(each.lines) for each in sources if each.text and each.is_test},
        functions=[function for source in sources for function in functions(source)],
        contracts=kept,
        rooms=rooms(sources),
        cycles=cycles(imports(sources)),
        passages=Counter(passage.kind for each in prose.values() for passage in each),
        openings=found,
        wide=wide,
        lines=count(sources),
        copies=list(copies(sources)),
        broad_handlers=sum(broad_handlers(each) for each in sources if each.is_source),
        walks=ways,
        wrong_steps=[Place(PAGE, *wrong) for way in ways for wrong in wrong_steps(way, paths.__contains__)],
    )


def _place(passage: Passage) -> Place:
    return Place(passage.path, passage.line, passage.text)
