"""export.py: what is typed wrong, by key."""

from pathlib import Path

import pytest

from bad_input import check_refused, rows

TABLE = [
    ("output_dir=folder", "is not empty", "take another"),
    ("output_dir=text.txt", "text.txt is a file", "take output_dir=my-model"),
    ("output_dir=text.txt/below", "text.txt is a file"),
    ("output_dir=run", "is not empty"),
    ("output_dir=dangling.txt", "is a file"),
    ("output_dir=null", "must be text", "try output_dir=my-model"),
    ("output_dir=", "must be text"),
    ("family=gpt5", "one of llama, mistral", "try family="),
    ("family=[llama]", "one of llama"),
    ("family=gpt2", "has no", "as the model has"),
    ("dtype=f32", "one of float32, bfloat16, float16", "try dtype=float32"),
    ("dtype=null", "one of float32"),
    ("checkpoint=nowhere", "no such file"),
    ("checkpoint=null", "must be text"),
    ("checkpoint=text.txt", "not a checkpoint"),
    ("checkpoint=folder", "in there"),
    ("checkpoint=learned", "llama has no position=learned"),
    ("checkpoint=fifo", "regular file"),
    ("checkpont=run", "no such key", "did you mean checkpoint?"),
    ("prompt=x", "no such key"),
    ("run", "checkpoint=run"),
    ("--dtype=float16", "dtype=float16"),
    ("checkpoint=nowhere dtype=x", "checkpoint=nowhere", "dtype=x"),
]


@pytest.mark.parametrize("row", rows(TABLE, every=12))
def test_export_refuses(row: tuple, home: Path) -> None:
    check_refused("export.py", row, home, ["checkpoint=run", "output_dir=exported"])
