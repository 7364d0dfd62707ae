"""What the keys under `data` must be; known without torch and before a text is read."""

from collections.abc import Mapping
from typing import Any

from common.rules import at_least, optional, problems
from data.corpora import corpus_problems
from data.tokenizers import TOKENIZER
from extras.tasks import mixture_problems

RULES = {
    "data.seq_len": at_least(1, 256),
    "data.batch_size": at_least(1, 8),
    "data.num_workers": at_least(0, 0),
    "data.val_tokens": optional(at_least(2, 65536)),
    **TOKENIZER,
    "seed": at_least(0, 0),
}
SHARES = ("passkey", "strings", "repeats", "splices")


def data_problems(settings: Mapping[str, Any], seed: object = 0) -> list[str]:
    """A line for each broken rule on the keys of the group `data`, all of them given."""
    values = {f"data.{key}": value for key, value in settings.items()}
    lines = problems(values | {"seed": seed}, RULES)
    wrong = {line.partition("=")[0] for line in lines}
    if not wrong & {"data.seq_len", "data.val_tokens"}:
        lines += _length_problems(settings["seq_len"], settings["val_tokens"])
    if not wrong & {"data.seq_len", "data.batch_size"}:
        shares = {key: settings[key] for key in SHARES}
        lines += mixture_problems(shares, settings["seq_len"], settings["batch_size"])
    return lines + corpus_problems(settings["corpus"], settings["path"])


def _length_problems(seq_len: int, val_tokens: int | None) -> list[str]:
    if val_tokens is None or seq_len < val_tokens:
        return []
    return [
        f"data.seq_len={seq_len}: must be less than data.val_tokens={val_tokens}; try "
        f"data.seq_len={min(val_tokens - 1, 256)}, or more data.val_tokens (null: all there are)"
    ]
