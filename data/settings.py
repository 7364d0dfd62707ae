"""What the keys under `data` must be; known without torch and before a text is read."""

from collections.abc import Mapping
from typing import Any

from common.rules import (
    BOOLEAN,
    at_least,
    broken_keys,
    integer,
    optional,
    problems,
    unknown,
)
from data.mixes import text_problems
from data.origin import KEYS as ORIGIN
from data.tasks import KINDS, share_problems
from data.tokenizer_choice import tokenizer_problems
from data.warmup import growth_problems

RULES = {
    "data.seq_len": at_least(1, 256),
    "data.batch_size": at_least(1, 8),
    "data.num_workers": integer(0, 256, 0),
    "data.val_tokens": optional(at_least(2, 65536)),
    "data.document_mask": BOOLEAN,
    "data.warmup_seq_len": optional(at_least(1, 64)),
    "data.warmup_steps": at_least(1, 100),
    "seed": at_least(0, 0),
}
# Of the config group `data`, beside the shares of tasks
KEYS = (
    *(*ORIGIN, "weights", "tokenizer", "vocab_size", "seq_len", "batch_size", "val_tokens"),
    *("document_mask", "warmup_seq_len", "warmup_steps", "num_workers"),
)


def data_problems(settings: Mapping[str, Any], seed: object = 0) -> list[str]:
    """A line for each broken rule on `KEYS` of the group `data`.

    All of them are given, but for those of a source that not every corpus has.
    """
    values = {f"data.{key}": settings[key] for key in settings if key in KEYS} | {"seed": seed}
    lines = problems(values, RULES) + tokenizer_problems(settings)
    if not {"data.seq_len", "data.val_tokens"} & broken_keys(values, RULES):
        lines += _length_problems(settings["seq_len"], settings["val_tokens"])
    if not {"data.seq_len", "data.warmup_seq_len"} & broken_keys(values, RULES):
        lines += growth_problems(settings)
    return lines + text_problems(settings)


def task_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each broken rule on the shares of tasks, the other keys of the group `data`.

    The kinds of tasks are those that have been registered by now (`data.tasks`).
    """
    shares = {key: share for key, share in settings.items() if key not in KEYS}
    if lines := unknown(shares, (*KEYS, *KINDS), "data."):
        where = "" if KINDS else " (tasks are there after `import extras`)"
        return [line + where for line in lines]
    sizes = {f"data.{key}": settings[key] for key in ("seq_len", "batch_size")}
    if problems(sizes, RULES):
        return []  # the shares depend on them
    lines = share_problems(shares, settings["seq_len"], settings["batch_size"])
    return lines or _short_problems(shares, settings["warmup_seq_len"])


def _short_problems(shares: Mapping[str, Any], shortest: int | None) -> list[str]:
    """A line for each task that the first windows, which grow, have no room for."""
    return [
        f"data.warmup_seq_len={shortest}: must be at least {KINDS[key].least} with "
        f"data.{key}={share}, whose task is that long; try data.warmup_seq_len=null"
        for key, share in shares.items()
        if share and shortest is not None and shortest < KINDS[key].least
    ]


def _length_problems(seq_len: int, val_tokens: int | None) -> list[str]:
    if val_tokens is None or seq_len < val_tokens:
        return []
    return [
        f"data.seq_len={seq_len}: must be less than data.val_tokens={val_tokens}; try "
        f"data.seq_len={min(val_tokens - 1, 256)}, or more data.val_tokens (null: all there are)"
    ]
