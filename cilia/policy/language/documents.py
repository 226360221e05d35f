"""YAML and JSON text as fields that know where they stand.

Text is read once, here; keys given twice, types that Kubernetes doesn't have and unreasonably big
texts are refused.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

import yaml

from cilia.policy.errors import BadPolicy, NotEnforced

MAX_NODES: Final = 1_000_000
MAX_DEPTH: Final = 64
_PLAIN_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_TRUE: Final = frozenset({"true", "yes", "on"})

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


@dataclass(slots=True)
class Document:
    """One document of a text. ``name`` is filled in once the object's kind and name are known."""

    source: str
    number: int
    name: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    allow_unenforced: bool = False
    unenforced: list[str] = field(default_factory=list)
    """Paths of accepted fields that have no effect yet."""

    def __str__(self) -> str:
        named = f" ({self.name})" if self.name else ""
        return f"{self.source or 'policy'}, document {self.number}{named}"


@dataclass(frozen=True, slots=True)
class Field:
    """Value and its path; the readers of types refuse what doesn't fit and name the path."""

    document: Document
    path: str
    value: Value

    def refuse(self, reason: str) -> NoReturn:
        """Refuse the value.

        Raises:
            BadPolicy: Always.
        """
        raise self._error(BadPolicy, reason)

    def mark_unenforced(self) -> None:
        """Note that a valid value has no effect yet; whoever builds rules of it sees to it that
        nothing opens.

        Raises:
            NotEnforced: Such values aren't allowed here.
        """
        if not self.document.allow_unenforced:
            raise self._error(NotEnforced, "not enforced yet")
        self.document.unenforced.append(self.path)

    def _error(self, kind: type[BadPolicy], reason: str) -> BadPolicy:
        line = self.document.lines.get(self.path, 0)
        return kind(where=str(self.document), path=self.path, value=self.value, reason=reason, line=line)

    def mapping(self) -> "Mapping":
        """Read a mapping with text keys."""
        if not isinstance(self.value, dict):
            self.refuse("must be a mapping")
        return Mapping(self, self.value)

    def items(self) -> list["Field"]:
        """Read a list."""
        if not isinstance(self.value, list):
            self.refuse("must be a list")
        return [Field(self.document, f"{self.path}[{i}]", item) for i, item in enumerate(self.value)]

    def text(self) -> str:
        """Read a string."""
        if not isinstance(self.value, str):
            self.refuse('must be a string, such as "80"' if isinstance(self.value, int) else "must be a string")
        return self.value

    def boolean(self) -> bool:
        """Read true or false."""
        if not isinstance(self.value, bool):
            self.refuse("must be true or false")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """Read a whole number of ``low``..``high``."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.refuse("must be a whole number")
        if not low <= self.value <= high:
            self.refuse(f"must be {low} to {high}")
        return self.value

    def one_of(self, choices: Sequence[str]) -> str:
        """Read one of a few texts."""
        text = self.text()
        if text not in choices:
            self.refuse(f"must be one of {', '.join(choices)}")
        return text


def path_in_object(at: Field) -> str:
    """Return the path of a field of ``spec`` within its object, be that an element of a List or
    not.
    """
    return at.path[at.path.index("spec") :]


class Mapping:
    """The fields of a mapping. A null field is an absent one, as in Kubernetes."""

    def __init__(self, at: Field, value: dict[str, Value]) -> None:
        self.at = at
        self._values = value

    def __iter__(self) -> Iterator[tuple[str, Field]]:
        return ((key, self._field(key, item)) for key, item in self._values.items() if item is not None)

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def only(self, *known: str) -> "Mapping":
        """Refuse fields that the language doesn't have."""
        for key, item in self._values.items():
            if key not in known and item is not None:
                near = next((name for name in known if name.lower().rstrip("s") == key.lower().rstrip("s")), "")
                self._field(key, item).refuse("unknown field" + (f"; is {near} meant?" if near else ""))
        return self

    def get(self, key: str) -> Field | None:
        """Return a field that may be absent."""
        item = self._values.get(key)
        return None if item is None else self._field(key, item)

    def require(self, key: str) -> Field:
        """Return a field that must be there."""
        found = self._field(key, self._values.get(key))
        if found.value is None:
            found.refuse("is required")
        return found

    def _field(self, key: str, item: Value) -> Field:
        return Field(self.at.document, _join(self.at.path, key), item)


def _join(path: str, key: str) -> str:
    if not (key.isalpha() and key.isascii()) and not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def read_documents(text: str, source: str) -> list[Field]:
    """Return the documents of a YAML or JSON text; empty ones are left out.

    Raises:
        BadPolicy: The text is neither, or a key is given twice.
    """
    if text.lstrip()[:1] in ("{", "["):
        try:
            return [_read_json(text, source)]
        except json.JSONDecodeError:
            pass  # flow style of YAML begins in the same way
    return list(_read_yaml(text, source))


def _read_json(text: str, source: str) -> Field:
    document = Document(source, 1)

    def pairs(items: list[tuple[str, Value]]) -> dict[str, Value]:
        result = dict(items)
        if len(result) < len(items):
            twice = next(key for i, (key, _) in enumerate(items) if key in dict(items[:i]))
            Field(document, twice, result[twice]).refuse("the key is given twice")
        return result

    try:
        return Field(document, "", json.loads(text, object_pairs_hook=pairs))
    except RecursionError:
        Field(document, "", None).refuse("is nested too deeply")


def _read_yaml(text: str, source: str) -> Iterator[Field]:
    number = 0
    try:
        for node in yaml.compose_all(text, Loader=yaml.CSafeLoader):
            number += 1
            document = Document(source, number)
            value = _Builder(document).build(node, "", 0)
            if value is not None:
                yield Field(document, "", value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        where = str(Document(source, number + 1))
        reason = f"is no YAML: {getattr(error, 'problem', None) or error}"
        raise BadPolicy(where=where, path="", value=None, reason=reason, line=line) from error


class _Builder:
    """Turns the nodes of one document into values and notes the line of each field."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Value:
        self._nodes += 1
        self._document.lines[path] = node.start_mark.line + 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            Field(self._document, path, None).refuse("the document is too big or nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> Value:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                Field(self._document, path, None).refuse("a key must be a string")
            key = key_node.value
            inner = _join(path, key)
            value = self.build(value_node, inner, depth + 1)
            self._document.lines[inner] = key_node.start_mark.line + 1
            if key in result:
                Field(self._document, inner, value).refuse("the key is given twice")
            result[key] = value
        return result

    def _scalar(self, node: yaml.Node, path: str) -> Value:
        text: str = node.value
        kind = node.tag.rpartition(":")[2]
        if kind == "binary":
            Field(self._document, path, text).refuse("has a type that policies don't use")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in _TRUE
        return int(text) if kind == "int" and _DECIMAL.fullmatch(text) else text
