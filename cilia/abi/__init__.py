"""The C structs of the data plane as Python sees them.

``structs``, ``enums``, ``maps``, ``offsets`` and ``defaults`` are generated from BTF by
``make abi`` (tools/abi.py), never edited; ``codec`` gives them their words.
"""
