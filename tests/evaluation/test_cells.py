"""Finished cells on the disk: what is kept, what comes back, what is refused."""

import pytest

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
