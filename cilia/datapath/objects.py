"""Object files: configured, checked against what is pinned, loaded.

Configuration happens between open and load: ``const volatile`` variables become constants that the
verifier prunes by, so one object serves every mode.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cilia.abi.codec import K, MapLayout, V
from cilia.datapath.btf import Btf
from cilia.datapath.descriptor import Descriptor, checked, ffi, lib
from cilia.datapath.errors import LoadFailed, MapMismatch, NotPinned, UnknownName, VariableMismatch
from cilia.datapath.map_info import MapInfo, open_map_info
from cilia.datapath.map_types import btf_of_object, is_same_types, types_in_object, types_of_pinned
from cilia.datapath.maps import Map
from cilia.datapath.per_cpu_map import PerCpuMap
from cilia.datapath.programs import Program

OBJECTS = Path(__file__).parent / "objects"
"""Directory of the objects that the build compiles."""

NEXT = "next"
"""Directory below the pins: maps that are to replace pinned ones (see cilia.datapath.migration)."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Options of loading an object.

    Attributes:
        variables: ``const volatile`` variable -> value. An int is put in the variable's byte order
            (``__be*`` in network order); bytes must have its size.
        max_entries: Map -> capacity, instead of the one in the source.
        pin_directory: On a BPF file system. Each named map is pinned there under its name, or, if
            it is there already, used as it is.
        migrate: Make a map that is pinned with another layout or size anew, pinned below NEXT,
            instead of refusing.
        programs: Which to load; None means all.
    """

    variables: Mapping[str, int | bytes] = field(default_factory=dict)
    max_entries: Mapping[str, int] = field(default_factory=dict)
    pin_directory: Path | None = None
    migrate: bool = False
    programs: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """The programs and maps of an object, in the kernel.

    Attributes:
        remade: Maps that are pinned below NEXT, since another layout or size is pinned under their
            names.
    """

    file: Path
    programs: Mapping[str, Program]
    maps: Mapping[str, Descriptor]
    remade: tuple[str, ...] = ()

    def program(self, name: str) -> Program:
        """Give a program; it belongs to this object. Raises UnknownName."""
        if name not in self.programs:
            raise UnknownName(self.file, "program", name, self.programs)
        return self.programs[name]

    def map_fd(self, name: str) -> int:
        """Give a descriptor of a map, which the caller owns. Raises UnknownName."""
        if name not in self.maps:
            raise UnknownName(self.file, "map", name, self.maps)
        return os.dup(self.maps[name].fileno())

    def map(self, layout: MapLayout[K, V]) -> Map[K, V]:
        """Give a map with a descriptor of its own.

        Raises UnknownName, or MapMismatch for another layout.
        """
        return Map(self.map_fd(layout.name), layout)

    def per_cpu_map(self, layout: MapLayout[K, V]) -> PerCpuMap[K, V]:
        """Do as ``map`` for a map with a value per CPU."""
        return PerCpuMap(self.map_fd(layout.name), layout)

    def close(self) -> None:
        """Give every descriptor back; what is pinned or attached stays."""
        for one in (*self.programs.values(), *self.maps.values()):
            one.close()

    def __enter__(self) -> "LoadedObject":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def load(file: Path, options: LoadOptions | None = None) -> LoadedObject:
    """Load an object file into the kernel.

    libbpf's own copy is released before this returns.

    Raises:
        UnknownName, VariableMismatch: ``options`` name what the object lacks, or give what doesn't
            fit.
        MapMismatch: A pinned map has another layout, and ``options`` don't migrate. Nothing was
            changed.
        LoadFailed: With the end of the verifier's log. Maps pinned by this call are unpinned again.
    """
    options = options or LoadOptions()
    with _opened(file) as handle:
        for name, value in options.variables.items():
            _set_variable(handle, file, name, value)
        _choose_programs(handle, file, options.programs)
        remade = _prepare_maps(handle, file, options)
        failed = lib.bpf_object__load(handle)
        if failed:
            raise _load_failed(file, -failed)
        return _taken_over(handle, file, remade)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    lib.cilia_log_clear()
    handle = lib.bpf_object__open(bytes(file))
    if handle == ffi.NULL:
        raise _load_failed(file, ffi.errno)
    try:
        yield handle
    finally:
        lib.bpf_object__close(handle)


def _load_failed(file: Path, errno: int) -> LoadFailed:
    log = ffi.string(lib.cilia_log()).decode(errors="replace")
    refused = re.search(r"prog '([^']+)': (?:BPF program load failed|failed to load)", log)
    return LoadFailed(file, refused[1] if refused else "", errno, log)


def _maps(handle: Any) -> Iterator[tuple[str, Any]]:
    """Give the named maps of an object, without its sections of globals (.rodata, .bss, .data)."""
    one = lib.bpf_object__next_map(handle, ffi.NULL)
    while one != ffi.NULL:
        if not lib.bpf_map__is_internal(one):
            yield ffi.string(lib.bpf_map__name(one)).decode(), one
        one = lib.bpf_object__next_map(handle, one)


def _programs(handle: Any) -> Iterator[tuple[str, Any]]:
    one = lib.bpf_object__next_program(handle, ffi.NULL)
    while one != ffi.NULL:
        yield ffi.string(lib.bpf_program__name(one)).decode(), one
        one = lib.bpf_object__next_program(handle, one)


def _variable_names(handle: Any) -> Iterator[str]:
    index = 0
    while (name := lib.cilia_variable_name(handle, index)) != ffi.NULL:
        yield ffi.string(name).decode()
        index += 1


def read_variables(file: Path) -> dict[str, bytes]:
    """Return the initial values of the ``const volatile`` variables of an object file.

    Raises:
        LoadFailed: It isn't an object file.
    """
    variable = ffi.new("struct cilia_variable *")
    found = {}
    with _opened(file) as handle:
        for name in _variable_names(handle):
            checked(lib.cilia_find_variable(handle, name.encode(), variable), f"find variable {name}")
            found[name] = bytes(ffi.buffer(variable.data, variable.size))
    return found


def _set_variable(handle: Any, file: Path, name: str, value: int | bytes) -> None:
    variable = ffi.new("struct cilia_variable *")
    if lib.cilia_find_variable(handle, name.encode(), variable) < 0:
        raise UnknownName(file, "variable", name, _variable_names(handle))
    if isinstance(value, bytes):
        packed = value
    else:
        order = "big" if variable.is_network_order else sys.byteorder
        try:
            packed = int(value).to_bytes(variable.size, order, signed=variable.is_signed)
        except OverflowError as too_big:
            raise VariableMismatch(file, name, variable.size, value) from too_big
    if len(packed) != variable.size:
        raise VariableMismatch(file, name, variable.size, value)
    ffi.memmove(variable.data, packed, len(packed))


def _choose_programs(handle: Any, file: Path, wanted: frozenset[str] | None) -> None:
    if wanted is None:
        return
    present = dict(_programs(handle))
    for name in sorted(wanted - present.keys()):
        raise UnknownName(file, "program", name, present)
    for name, program in present.items():
        lib.bpf_program__set_autoload(program, name in wanted)


def _prepare_maps(handle: Any, file: Path, options: LoadOptions) -> tuple[str, ...]:
    """Set sizes and pins; return the maps that are made anew though one of their name is pinned."""
    present = dict(_maps(handle))
    for name, max_entries in options.max_entries.items():
        if name not in present:
            raise UnknownName(file, "map", name, present)
        checked(lib.bpf_map__set_max_entries(present[name], max_entries), f"set max_entries of map {name}")
    if options.pin_directory is None:
        return ()
    btf = btf_of_object(handle)
    remade = []
    for name, one in present.items():
        path = options.pin_directory / name
        differences = _differences(path, one, btf)
        if differences and not options.migrate:
            raise MapMismatch(name, differences)
        if differences:
            remade.append(name)
            path = options.pin_directory / NEXT / name
            path.parent.mkdir(exist_ok=True)
        checked(lib.bpf_map__set_pin_path(one, bytes(path)), f"set the pin of map {name}")
    return tuple(remade)


def _differences(path: Path, wanted: Any, btf: Btf | None) -> dict[str, tuple[object, object]]:
    """Return in what the map pinned at ``path`` differs; libbpf would say "parameter mismatch"."""
    try:
        pinned = open_map_info(path)
    except NotPinned:
        return {}
    wanted_info = MapInfo(
        id=pinned.id,
        kind=lib.bpf_map__type(wanted),
        key_size=lib.bpf_map__key_size(wanted),
        value_size=lib.bpf_map__value_size(wanted),
        max_entries=lib.bpf_map__max_entries(wanted),
        flags=lib.bpf_map__map_flags(wanted),
    )
    differences: dict[str, tuple[object, object]] = {
        what: (present, want)
        for what, present, want in zip(MapInfo._fields, pinned, wanted_info, strict=True)
        if present != want
    }
    types = types_of_pinned(path)
    if btf and types and not is_same_types(types, types_in_object(btf, wanted)):
        differences["layout"] = ("of other fields", "that of the object")
    return differences


def _taken_over(handle: Any, file: Path, remade: tuple[str, ...]) -> LoadedObject:
    """Give descriptors that outlive libbpf's object."""
    programs = {}
    for name, one in _programs(handle):
        fd = lib.bpf_program__fd(one)
        if fd >= 0:  # else it was left out
            programs[name] = Program(os.dup(fd), name)
    maps = {name: Descriptor(os.dup(lib.bpf_map__fd(one))) for name, one in _maps(handle)}
    return LoadedObject(file, programs, maps, remade)
