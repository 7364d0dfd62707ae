"""Plain data: what a config that comes with a run or a checkpoint may be, and nothing else.

Such a config is never resolved, called or imported from: it is dictionaries of text keys, lists,
and numbers, texts, booleans and null.
"""

import re
import unicodedata
from collections.abc import Mapping

MAGIC = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")  # Hydra's own words
DEPTH = 20  # of dictionaries and lists in each other; a config of ours has four


def plain_problem(value: object, key: str = "", depth: int = 0) -> str | None:
    """What is not plain about `value`, after the `key` that it stands at; None where all is."""
    if depth > DEPTH:
        return f"{key}: is nested more than {DEPTH} deep"
    if isinstance(value, str):
        return _text_problem(value, key)
    if isinstance(value, list):
        inner = {f"{key}[{i}]": entry for i, entry in enumerate(value)}
    elif isinstance(value, dict):
        if wrong := [name for name in value if not _is_name(name)]:
            return f"{key or 'top level'}: has the key {wrong[0]!r}, which is no name"
        inner = {f"{key}.{name}" if key else name: entry for name, entry in value.items()}
    elif value is None or isinstance(value, bool | int | float):
        return None
    else:
        return f"{key}: is a {type(value).__name__}"
    found = (plain_problem(entry, name, depth + 1) for name, entry in inner.items())
    return next(filter(None, found), None)


def names_code(value: object) -> bool:
    """Whether Hydra would find a word of its own in `value`, however nested."""
    if isinstance(value, Mapping):
        return any(key in MAGIC or names_code(entry) for key, entry in value.items())
    return isinstance(value, list | tuple) and any(map(names_code, value))


def leads_out(value: object) -> bool:
    """Whether `value` holds a path that is absolute or goes up, however nested."""
    if isinstance(value, Mapping):
        return any(map(leads_out, value.values()))
    if isinstance(value, list | tuple):
        return any(map(leads_out, value))
    if not isinstance(value, str):
        return False
    path = value.replace("\\", "/")
    return ".." in path.split("/") or re.match("[A-Za-z]?:?/|~", path) is not None


def _is_name(key: object) -> bool:
    return isinstance(key, str) and bool(key) and "." not in key and key.isprintable()


def _text_problem(text: str, key: str) -> str | None:
    if "${" in text:
        return f"{key}: holds ${{…}}, which is not looked up"
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        return f"{key}: holds control characters"
    return None
