"""Types of a map's keys and values: asked of the kernel, or of an object that isn't loaded yet."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from cilia.datapath.btf import Btf
from cilia.datapath.conversion import is_same
from cilia.datapath.descriptor import Descriptor, checked, ffi, get_pinned, lib
from cilia.datapath.errors import KernelError
from cilia.datapath.layout import Integer, Type

Types = tuple[Type, Type]
"""Types of key and value."""

NOTHING = Integer("", 0)
"""The type of a key or value that there isn't, as in a ring buffer."""


def types_of_map(fd: int) -> Types | None:
    """Return the types of a map in the kernel, None if it was made without BTF."""
    info = ffi.new("struct cilia_map_info *")
    checked(lib.cilia_map_info(fd, info), "ask for a map")
    if not info.btf_id:
        return None
    btf = kernel_btf(info.btf_id)
    return _type(btf, info.key_type), _type(btf, info.value_type)


def types_of_pinned(path: Path) -> Types | None:
    """Do as types_of_map for what is pinned at ``path``; raises NotPinned."""
    with Descriptor(get_pinned(path)) as pinned:
        return types_of_map(pinned.fileno())


def is_same_types(old: Types, new: Types) -> bool:
    """Tell whether keys and values mean the same bytes by the same names."""
    return is_same(old[0], new[0]) and is_same(old[1], new[1])


@lru_cache(maxsize=4)
def kernel_btf(number: int) -> Btf:
    """Return BTF that the kernel holds; numbers aren't used twice."""
    handle = lib.btf__load_from_kernel_by_id(number)
    if handle == ffi.NULL:
        raise KernelError(f"ask for BTF {number}", ffi.errno)
    try:
        return _parsed(handle)
    finally:
        lib.btf__free(handle)


def btf_of_object(handle: Any) -> Btf | None:
    """Return the BTF of an open object, None if it was compiled without."""
    btf = lib.bpf_object__btf(handle)
    return None if btf == ffi.NULL else _parsed(btf)


def btf_of_file(file: Path) -> Btf:
    """Return the BTF of an object file; raises KernelError if it has none."""
    handle = lib.btf__parse(bytes(file), ffi.NULL)
    if handle == ffi.NULL:
        raise KernelError(f"read the BTF of {file.name}", ffi.errno)
    try:
        return _parsed(handle)
    finally:
        lib.btf__free(handle)


def types_in_object(btf: Btf, one: Any) -> Types:
    """Return the types of a map of an open object."""
    return _type(btf, lib.bpf_map__btf_key_type_id(one)), _type(btf, lib.bpf_map__btf_value_type_id(one))


def _type(btf: Btf, number: int) -> Type:
    return btf.type(number) if number else NOTHING


def _parsed(handle: Any) -> Btf:
    size = ffi.new("uint32_t *")
    data = lib.btf__raw_data(handle, size)
    return Btf(bytes(ffi.buffer(data, size[0])))
