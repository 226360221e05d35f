"""The data plane with other layouts of its maps, as a later version might have them."""

import re
import shutil
from pathlib import Path

from tools.build import ROOT, compile_bpf

WIDER_FLOWS = {
    "maps/conntrack.h": [
        ("struct ct_entry {\n", "struct ct_entry {\n\t__u64 fresh;\n"),
        ("__u64 packets;\n\t__u64 bytes;\n", "__u64 bytes;\n\t__u64 packets;\n"),
    ]
}
"""A field more in front, and two that changed places."""

SWAPPED_COUNTERS = {
    "maps/conntrack.h": [
        ("__u64 packets;\n\t__u64 bytes;\n", "__u64 bytes;\n\t__u64 packets;\n"),
    ]
}
"""The same size, other places."""

WIDER_POLICY = {
    "maps/policy.h": [
        ("\t__u8 deny;\n\t__u8 audit;\n", "\t__u16 audit;\n\t__u16 deny;\n\t__u32 fresh;\n"),
    ]
}
"""Fields that changed their width and places, and one more."""

SMALLER_NAMES = {"maps/policy.h": [("\t__u32 cookie;", "\t__u8 cookie;\n\t__u8 more[3];")]}
"""A field that became narrower."""

Changes = dict[str, list[tuple[str, str]]]


def compile_variant(directory: Path, *variants: Changes) -> Path:
    """Compile the data plane with some text of its headers replaced; return the object."""
    tree = directory / "bpf"
    shutil.copytree(ROOT / "bpf", tree)
    for changes in variants:
        for name, replacements in changes.items():
            text = (tree / name).read_text()
            for before, after in replacements:
                assert before in text, f"{name} has no {before!r}"
                text = text.replace(before, after)
            (tree / name).write_text(re.sub(r"^_Static_assert\(sizeof.*\n", "", text, flags=re.MULTILINE))
    target = directory / "variant.o"
    compile_bpf(tree / "cilia.c", target, directory)
    return target
