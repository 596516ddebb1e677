"""Names that Core ML accepts for a model's inputs and outputs.

A MIL identifier is a letter or underscore followed by letters, digits and underscores (so `a:0` is none), and may not
be a word of the MIL grammar. Only inputs and outputs carry names of the model: inner variables are numbered, because
names are a large part of a small package.
"""

from __future__ import annotations

import re

_LEGAL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INNER = re.compile(r"v\d+(_\d+)?")
_TYPES = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64))
_WORDS = frozenset(("any", "dict", "false", "func", "list", "program", "state", "string", "tensor", "true", "tuple"))
_RESERVED = _TYPES | _WORDS | {"bool", "bf16", "fp16", "fp32", "fp64"}


def identifier(name: str, taken: set[str]) -> str:
    """The MIL identifier for a model's input or output: `name` itself where it is legal, and always unique.

    Args:
        name: The model's own name.
        taken: Identifiers in use; the new one is added.
    """
    legal = name
    if not _LEGAL.fullmatch(legal):
        legal = re.sub(r"[^A-Za-z0-9_]", "_", legal) or "_"
        if legal[0].isdigit():
            legal = "_" + legal
    if legal in _RESERVED or _INNER.fullmatch(legal):
        legal += "_"
    unique, count = legal, 1
    while unique in taken:
        unique, count = f"{legal}_{count}", count + 1
    taken.add(unique)
    return unique
