"""Values of any type that contracts are made of: one sample of each, or drawn by hypothesis."""

import pkgutil
import types
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import import_module
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from msgspec import NODEFAULT, Raw, Struct
from msgspec.structs import FieldInfo, fields

import cilia.contracts
from cilia.contracts.messages import Message, Reply
from cilia.contracts.tables import Row

MODULES: Final = [
    import_module(f"cilia.contracts.{each.name}") for each in pkgutil.iter_modules(cilia.contracts.__path__)
]
SMALL: Final = 3
"""Elements of a collection at most; what holds for three holds for more."""

_PLAIN: Final[dict[object, st.SearchStrategy[Any]]] = {
    str: st.text(max_size=12),
    int: st.integers(0, (1 << 53) - 1),
    float: st.floats(allow_nan=False, allow_infinity=False, width=32),
    bool: st.booleans(),
    Raw: st.just(Raw(b"{}")),
}


def every_kind(base: type[Struct]) -> list[type[Struct]]:
    """Return the concrete classes of the contracts below a base; generic ones are left out."""
    found: list[type[Struct]] = []
    pending = list(base.__subclasses__())
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith("cilia.contracts.") and not getattr(kind, "__parameters__", ()):
            found.append(kind)
    return sorted(set(found), key=lambda kind: (kind.__module__, kind.__name__))


MESSAGES: Final = [kind for kind in every_kind(Message) if not issubclass(kind, Reply)]
ROWS: Final = every_kind(Row)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a type as it stands in an annotation."""
    hint = getattr(hint, "__supertype__", hint)  # a NewType is its base
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if part is type(None) else values_of(part) for part in parts))
    if origin is tuple and parts[-1] is Ellipsis:
        return st.lists(values_of(parts[0]), max_size=SMALL).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, parts))
    if origin is dict:
        return st.dictionaries(*map(values_of, parts), max_size=SMALL)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return structs_of(hint)


def sample_of(hint: Any) -> Any:
    """Return one value of a type, other than its default: every collection has one element."""
    hint = getattr(hint, "__supertype__", hint)
    plain = {str: "text", int: 7, float: 0.5, bool: True, Raw: Raw(b"{}")}
    if hint in plain:
        return plain[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return sample_of(next(part for part in parts if part is not type(None)))
    if origin is tuple:
        return tuple(sample_of(part) for part in parts if part is not Ellipsis)
    if origin is dict:
        return {sample_of(parts[0]): sample_of(parts[1])}
    if issubclass(hint, Enum):
        return list(hint)[-1]
    hints = get_type_hints(hint)
    return hint(**{name: sample_of(hints[name]) for name in hint.__struct_fields__})


def structs_of(kind: type[Struct]) -> st.SearchStrategy[Struct]:
    """Return a strategy for a struct with all of its fields drawn."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: values_of(hints[name]) for name in kind.__struct_fields__})


def is_required(field: FieldInfo) -> bool:
    """Tell whether a field has no default."""
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


def fields_where(kind: type[Struct], admits: Callable[[FieldInfo], bool]) -> Iterator[str]:
    """Yield the names of the fields that a predicate admits."""
    return (field.name for field in fields(kind) if admits(field))


def enum_in(hint: Any) -> type[Enum] | None:
    """Return the enum that a field's type is made of, if it is."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, Enum):
            return part
    return None
