"""Finished cells on the disk: what is kept, what comes back, what is refused."""

import errno
import json
import re

import pytest

from disk import file_size_limit
from evaluation import Cells
from evaluation.cells import Cell, Key

IDENTITY = {"checkpoints": [{"path": "a", "sha256": "1"}], "lengths": [16, 32], "split": "report"}
KEY = Key("1", "loss", "none", 16)


def test_cells_come_back_and_a_line_that_was_cut_off_does_not(tmp_path):
    path = tmp_path / "cells.jsonl"
    cells = Cells(path, IDENTITY)
    cell = Cell({"nats": [0.1, 1 / 3]}, None, 0.5, 12.5, None)
    cells.add(KEY, cell)
    cells.add(KEY._replace(length=32), Cell(reason="too long"))
    cells.add(KEY._replace(length=64), Cell(reason="out of GPU memory"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"cell": {"checkpoi')
    again = Cells(path, IDENTITY)
    assert len(again) == 2 and again[KEY] == cell and path.read_bytes() == whole
    assert again[KEY._replace(length=32)].reason == "too long"
    assert KEY._replace(length=64) not in again  # it may fit another time
    assert KEY._replace(method="yarn") not in again


def test_a_store_of_another_evaluation_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "cells.jsonl"
    Cells(path, IDENTITY)
    moved = {**IDENTITY, "checkpoints": [{"path": "b", "sha256": "1"}]}
    assert len(Cells(path, moved)) == 0
    with pytest.raises(ValueError, match=r"output_dir=.*lengths=\[16, 32\], not \[16\]; "):
        Cells(path, {**IDENTITY, "lengths": [16]})
    with pytest.raises(ValueError, match="checkpoints="):
        Cells(path, {**IDENTITY, "checkpoints": [{"path": "a", "sha256": "2"}]})
    path.write_text("not json\n")
    with pytest.raises(ValueError, match="damaged"):
        Cells(path, IDENTITY)


def test_a_changed_digit_is_seen_in_every_line(tmp_path):
    path = tmp_path / "cells.jsonl"
    cells = Cells(path, IDENTITY)
    for length in (16, 32):
        cells.add(KEY._replace(length=length), Cell({"nats": [0.125, 2.5]}, None, 0.5, 12.5, None))
    whole = path.read_text()
    digits = [match.start() for match in re.finditer(r"\d", whole)]
    for at in digits:
        path.write_text(f"{whole[:at]}{(int(whole[at]) + 1) % 10}{whole[at + 1 :]}")
        with pytest.raises(ValueError, match=r"^output_dir=.*(damaged|holds an evaluation with)"):
            Cells(path, IDENTITY)
    path.write_text(whole)
    assert len(Cells(path, IDENTITY)) == 2


OLD = {
    "cell": KEY._asdict(),
    "figures": {"nats": [0.1]},
    "reason": None,
    "seconds": 0.5,
    "tokens_per_second": 12.5,
    "peak_memory_bytes": None,
}
NO_CELLS = (
    *("3", "[]", "null", '"x"', '{"a": 1}', "[" * 200_000, '{"a":' * 200_000),
    *({"cell": "x"}, {"cell": {}}, {"extra": 1}, {"seconds": "x"}, {"reason": "also"}),
    *({"figures": figures} for figures in ({}, None, 5, {"nats": 5}, {"nats": ["x"]}, [])),
    *({"cell": {**KEY._asdict(), **part}} for part in ({"measure": []}, {"length": "1"}, {"a": 1})),
)


@pytest.mark.parametrize("changed", NO_CELLS, ids=lambda v: str(v)[:40])
def test_what_is_no_cell(changed, tmp_path):
    path = tmp_path / "cells.jsonl"
    line = changed if isinstance(changed, str) else json.dumps({**OLD, **changed})
    for lines in ([json.dumps(IDENTITY), line], [line, line]):
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(ValueError, match=r"^output_dir=.*(damaged|holds an evaluation with)"):
            Cells(path, IDENTITY)


def test_a_store_of_before_there_were_checksums_goes_on(tmp_path):
    path = tmp_path / "cells.jsonl"
    path.write_text(f"{json.dumps(IDENTITY)}\n{json.dumps(OLD)}\n")
    Cells(path, IDENTITY).add(KEY._replace(length=32), Cell(reason="too long"))
    assert len(Cells(path, IDENTITY)) == 2
    path.write_text(path.read_text().replace("too long", "too_long"))  # this line has one
    with pytest.raises(ValueError, match="damaged"):
        Cells(path, IDENTITY)


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "cells.jsonl"
    cells = Cells(path, IDENTITY)
    with pytest.raises(OSError) as error, file_size_limit(path.stat().st_size + 10):
        cells.add(KEY, Cell(reason="too long"))
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
