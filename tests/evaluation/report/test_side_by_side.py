"""Models side by side as a table and a picture, from figures that are known."""

import io
import weakref
from dataclasses import replace

import pytest
from rich.console import Console

from evaluation import Cells, Column, Subject, check_settings, column_tables, measure_columns
from evaluation.columns import Columns
from evaluation.report.columns.files import markdown
from evaluation.report.figures.columns import column_figures
from tiny_extrapolation import BYTES, DOCUMENT, TRAIN_LENGTH, tiny

LABELS = ["position=rope", "position=alibi", "position=nope"]
LENGTHS = [64, 128]


def row(method: str, length: int, *values: float | None, best: tuple[str, ...] = ()) -> dict:
    """Of the models in order; None where one was not measured."""
    there = {label: v for label, v in zip(LABELS, values, strict=True) if v is not None}
    order = sorted(there, key=lambda label: there[label])
    lead = {"value": there[order[1]] - there[order[0]], "ci95": [0.125, 0.5]} if order[1:] else None
    return {
        "method": method,
        "length": length,
        "values": there,
        "ci95": {label: [v - 0.125, v + 0.25] for label, v in there.items()},
        "differences": {},
        "lead": lead and {"best": order[0], "next": order[1], **lead},
        "best": list(best),
    }


@pytest.fixture
def columns() -> Columns:
    """Three models under one method that all can be read by, and one that rope alone can."""
    why = {str(n): "no rotation" for n in LENGTHS}
    rows = [row("none", 64, 2.0, 2.5, 3.0, best=(LABELS[0],)), row("none", 128, 3.0, 2.5, 3.5)]
    rows += [row("yarn", n, 2.0, None, None) for n in LENGTHS]
    return Columns(
        models={label: {"path": label, "train_length": 64, "parameters": 9} for label in LABELS},
        lengths=LENGTHS,
        protocol={
            **{"passages": 8, "target_tokens": 16, "trials": 20},
            "methods": {"none": "as trained", "yarn": "stretched"},
        },
        measures={"loss": rows},
        reasons={"loss": {label: {"yarn": why} for label in LABELS[1:]}},
    )


def printed(columns: Columns) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in column_tables(columns):
        console.print(table)
    return console.file.getvalue()


def test_a_table_of_three_models_in_80_columns(columns: Columns) -> None:
    text = printed(columns)
    cells = [
        [c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line
    ]
    assert cells == [
        ["none", "64 (1x)", "*2.000", "2.500", "3.000", "0.500 [0.125, 0.500]"],
        ["", "128 (2x)", "3.000", "2.500", "3.500", "0.500 [0.125, 0.500]"],
        ["yarn", "64 (1x)", "2.000", "-", "-", "-"],
        ["", "128 (2x)", "2.000", "-", "-", "-"],
    ]
    assert "- position=alibi, position=nope under yarn: no rotation" in text
    assert "lead: how far the best model of a row is ahead of the next best" in text
    table = markdown(columns)
    assert "| none | 64 (1x) | **2.000** [1.875, 2.250] | 2.500 [2.375, 2.750] |" in table
    assert "In bold: better than every other in its row" in table


def test_a_panel_for_each_method_with_a_curve_for_each_model(columns: Columns) -> None:
    none, yarn = column_figures(columns)["columns"]().axes
    curves = [list(line.get_ydata()) for line in none.lines if len(line.get_xdata()) == 2]
    assert [2.0, 3.0] in curves and [2.5, 2.5] in curves and [3.0, 3.5] in curves
    assert len(none.collections) == 3 and len(yarn.collections) == 1  # bands
    assert none.get_ylim() == yarn.get_ylim()
    said = [text.get_text().replace("\n", " ") for text in yarn.texts]
    assert "no position=alibi, position=nope: no rotation" in said


def test_a_method_that_no_model_takes_and_a_measure_that_finds_nothing(columns: Columns) -> None:
    for one in columns.measures["loss"][2:]:
        one.update(values={}, ci95={})
    _, yarn = column_figures(columns)["columns"]().axes
    assert yarn.texts[0].get_text() == "Nothing measured: no rotation." and not yarn.lines
    columns.measures["passkey"] = [row("none", n, 0.0, 0.0, 0.0) for n in LENGTHS]
    sentence = "No key is found at any length by any model under any method: 20 trials each."
    (ax,) = column_figures(columns)["columns-passkey"]().axes
    assert ax.texts[0].get_text().replace("\n", " ") == sentence
    assert sentence in printed(columns) and sentence in markdown(columns)


def test_one_model_at_a_time_is_in_memory() -> None:
    loaded: list[weakref.ref] = []

    def load():
        assert all(model() is None for model in loaded)
        model = tiny()
        loaded.append(weakref.ref(model))
        return model

    settings = check_settings(TRAIN_LENGTH, lengths=[16, 32], methods=["none"], passages=2)
    done: list[tuple[int, int]] = []
    sides = [
        Column(key, replace(Subject.in_memory(tiny()), key=key, load=load), settings, Cells())
        for key in "abc"
    ]
    compared, alone = measure_columns(
        sides, [DOCUMENT], BYTES, on_progress=lambda *at: done.append(at)
    )
    assert len(loaded) == 3 and list(compared.models) == list(alone) == ["a", "b", "c"]
    assert done[-1] == (3 * 2 * 48, 3 * 2 * 48)  # of all models: 2 passages at 16 and 32 tokens
    assert all(row["best"] == [] for row in compared.measures["loss"])  # they are the same
