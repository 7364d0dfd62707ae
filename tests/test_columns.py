"""evaluate.py as=columns: different models side by side, run in this process."""

import csv
import json
import math
import signal
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from commands import some, write_text
from common.signals import Stopped
from evaluation import MEASURES
from saved_models import evaluate, save

FEW = ("as=columns", "passages=8", "target_tokens=8", "lengths=[32,64]", "methods=[none,yarn@2]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with checkpoints that differ in what their names say."""
    home = tmp_path_factory.mktemp("columns")
    write_text(home / "text.txt")
    save(home / "a", 0)
    save(home / "alibi", 2, position="alibi")
    save(home / "longer", 3, seq_len=64)
    save(home / "other", 2, corpus="1" * 64)
    save(home / "char", 2, tokenizer="char")
    save(home / "twin", 0, step=6)
    save(home / "near", 0, noise=1e-4)
    return home


@pytest.fixture(scope="module")
def sides(home: Path) -> tuple[dict, str]:
    """Two models side by side: what comparison.json holds, and what was printed.

    Without each model's own pictures and curves, which take their time, as `bare`.
    """
    pictures, curves = "evaluation.report.files.draw_all", "cli.extrapolate.log_tensorboard"
    with mock.patch(pictures), mock.patch(curves):
        status, out, err = evaluate(home, "checkpoint=[a,alibi]", *FEW, "output_dir=sides")
    assert status == 0, err
    return json.loads((home / "sides/comparison.json").read_text()), out


@pytest.fixture
def bare(monkeypatch) -> None:
    """Without each model's own pictures and curves, which take their time."""
    monkeypatch.setattr("cli.extrapolate.write_report", lambda *_: None)
    monkeypatch.setattr("cli.extrapolate.log_tensorboard", lambda *_: None)


def sizes(home: Path) -> dict[Path, int]:
    """Of every file and directory, but for the locks of who looked at it."""
    return {path: path.stat().st_size for path in home.rglob("*") if path.name != ".lock"}


def nats(directory: Path) -> dict[tuple[str, int], np.ndarray]:
    """The losses of a model's passages, by method and length, from its cells."""
    lines = map(json.loads, (directory / "cells.jsonl").read_text().splitlines()[1:])
    return {
        (line["cell"]["method"], line["cell"]["length"]): np.array(line["figures"]["nats"])
        for line in lines
    }


def test_each_model_is_measured_by_itself_on_the_same_passages(home: Path, sides, bare) -> None:
    comparison, _ = sides
    assert list(comparison["models"]) == ["position=rope", "position=alibi"]
    for label in comparison["models"]:
        alone = json.loads((home / "sides" / label / "extrapolation.json").read_text())
        for row in comparison["measures"]["loss"]:
            column = alone["lengths"].index(row["length"])
            figures = alone["methods"][row["method"]]
            assert row["values"].get(label) == figures["bpb"][column]
            assert row["ci95"].get(label) == figures["ci95"][column]
    lone = ("checkpoint=alibi", *FEW[1:4], "output_dir=alone")
    assert evaluate(home, *lone)[0] == 0
    assert nats(home / "alone").keys() == nats(home / "sides/position=alibi").keys()
    for key, found in nats(home / "alone").items():
        assert np.array_equal(found, nats(home / "sides/position=alibi")[key])


def test_differences_and_marks_are_paired_over_passages(home: Path, sides) -> None:
    comparison, out = sides
    rope, alibi = (nats(home / "sides" / label) for label in comparison["models"])
    n_bytes = comparison["protocol"]["target_bytes"]
    rng, seen = np.random.default_rng(3), 0
    for row in comparison["measures"]["loss"]:
        if row["method"] != "none":
            assert not row["differences"] and row["lead"] is None and row["best"] == []
            continue
        by_passage = alibi["none", row["length"]] - rope["none", row["length"]]
        difference = row["differences"]["position=alibi"]
        bits = by_passage.sum() / math.log(2) / n_bytes
        assert difference["value"] == pytest.approx(bits)
        drawn = rng.integers(0, 8, (4000, 8))  # every target is of one byte here
        # 0.574 %: what is beyond Student's t of 7, 2.3646, times the root of 8/7.
        oracle = np.percentile(by_passage[drawn].mean(axis=1), [0.574, 99.426])
        low, high = difference["ci95"]
        oracle *= 8 / math.log(2) / n_bytes
        assert [low, high] == pytest.approx(oracle, abs=0.15 * (high - low))
        better = "position=alibi" if bits < 0 else "position=rope"
        assert row["best"] == ([better] if low * high > 0 else [])
        assert row["lead"]["best"] == better and row["lead"]["value"] == pytest.approx(abs(bits))
        seen += 1
        mark = f"{difference['value']:+.3f} [{low:+.3f}, {high:+.3f}]"
        assert mark in out
    assert seen == 2
    starred = sum(bool(row["best"]) for row in comparison["measures"]["loss"])
    assert sum(line.count("*") for line in out.splitlines() if "│" in line) == starred


def test_what_a_model_refuses_is_a_dash_and_its_reason_once(home: Path, sides) -> None:
    comparison, out = sides
    why = "nothing to scale: position=alibi has no rotation"
    assert out.count("- position=alibi under yarn@2") == 1 and why in " ".join(out.split())
    assert comparison["reasons"]["loss"]["position=alibi"]["yarn@2"] == {"32": why, "64": why}
    with open(home / "sides/comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2
    (refused,) = {row["reason"] for row in rows if not row["value"]}
    assert refused == why
    text = (home / "sides/comparison.md").read_text()
    assert "| method | context | position=rope | position=alibi | difference [95 %] |" in text
    assert text.count(why) == 1
    with Image.open(home / "sides/columns.png") as image:
        assert image.width > 1000


def test_a_narrow_terminal_cuts_nothing(sides) -> None:
    _, out = sides
    assert "…" not in out and max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_training_lengths_differ_and_lengths_are_tokens(home: Path, bare) -> None:
    few = ("as=columns", "passages=4", "methods=[none,crop]", "output_dir=three")
    status, out, err = evaluate(home, "checkpoint=[longer,a,alibi]", *few)
    assert status == 0, err
    comparison = json.loads((home / "three/comparison.json").read_text())
    assert comparison["lengths"] == [32, 64, 128, 256]
    models = comparison["models"]
    assert [model["train_length"] for model in models.values()] == [64, 32, 32]
    longer, first, _ = models
    rows = {(r["method"], r["length"]): r for r in comparison["measures"]["loss"]}
    for label, own in ((longer, 64), (first, 32)):  # crop reads each model's own training length
        far, near = rows["crop", 256]["values"][label], rows["none", own]["values"][label]
        assert far == near != rows["none", 256]["values"][label]
    assert "lead [95 %]" in out and "trained" in out and "(1x)" not in out
    for row in rows.values():
        order = sorted(row["values"].values())
        assert row["lead"]["value"] == pytest.approx(order[1] - order[0])
        assert row["lead"]["ci95"] is None and row["best"] == []  # of 4 passages
    assert "4 passages are too few to tell a difference" in " ".join(out.split())


def test_the_same_model_twice_and_one_that_is_almost_it_get_no_mark(home: Path, bare) -> None:
    status, out, err = evaluate(
        home, "checkpoint=[a,twin,near]", *FEW, "output_dir=same", "accelerator=cpu"
    )
    assert status == 0, err
    comparison = json.loads((home / "same/comparison.json").read_text())
    for row in comparison["measures"]["loss"]:
        assert row["best"] == []
        assert row["differences"]["twin"] == {"value": 0.0, "ci95": [0.0, 0.0]}
        assert abs(row["differences"]["near"]["value"]) < 1e-2
    assert "no model is better than every other in its row" in " ".join(out.split())


@pytest.mark.slow
def test_stopped_within_the_second_model_it_goes_on(home: Path, sides, bare, monkeypatch) -> None:
    command = ("checkpoint=[a,alibi]", *FEW, "output_dir=stopped")
    run, done = MEASURES["loss"].run, []

    def stops(model, task):
        if len(done) == 5:
            raise Stopped(signal.SIGINT)
        done.append(model)
        return run(model, task)

    with monkeypatch.context() as patch:
        patch.setitem(MEASURES, "loss", MEASURES["loss"]._replace(run=stops))
        status, _, err = evaluate(home, *command)
    assert status == 130 and "5 finished cells are kept" in err and "output_dir=stopped" in err
    assert not (home / "stopped/comparison.json").exists()
    before = (home / "stopped/position=rope/cells.jsonl").read_bytes()
    status, out, err = evaluate(home, *command)
    assert status == 0 and "5 finished cells found in stopped" in out, err
    assert (home / "stopped/position=rope/cells.jsonl").read_bytes() == before
    sides = json.loads((home / "sides/comparison.json").read_text())
    assert json.loads((home / "stopped/comparison.json").read_text()) == sides


REFUSED = [
    (("checkpoint=a", "as=mean", "output_dir=sides"), "an evaluation with as=columns, not as="),
    (("checkpoint=[a,longer]", "as=mean"), "as=columns shows both"),
    (("checkpoint=[alibi,a]", "output_dir=sides"), "holds position=rope, position=alibi side"),
    (("checkpoint=[a,char]",), "checkpoint=char: has another tokenizer"),
    (("checkpoint=a",), "as=columns: must have two or more checkpoints to put side by side"),
    (("checkpoint=[a,other]",), "name the text to score, as in data=stdlib"),
    (("checkpoint=[a,alibi]", "as=mean"), "another model (position=alibi, not rope)"),
    (("checkpoint=[a,alibi]", "methods=[longrope]"), "methods=[longrope]: "),
    (("checkpoint=[a,alibi]", "lengths=[100000]"), "longer than the text"),
    (("checkpoint=[a,longer]", "output_dir=sides"), "not these checkpoints in this order"),
    (("checkpoint=[a,alibi]", "output_dir=sides", "passages=9"), "passages=8, not 9"),
    (("checkpoint=[a,alibi]", "output_dir=mean"), "holds an evaluation with as=mean, not as="),
    (("checkpoint=[a,alibi]", "output_dir=damaged"), "models.json in there is damaged"),
]


@pytest.mark.parametrize("case", some(REFUSED, default=2), ids=lambda case: case[1][:40])
def test_what_cannot_stand_side_by_side_is_refused(
    case: tuple[tuple[str, ...], str], home: Path, sides
) -> None:
    arguments, message = case
    (home / "mean").mkdir(exist_ok=True)
    (home / "mean/cells.jsonl").touch()
    (home / "damaged").mkdir(exist_ok=True)
    (home / "damaged/models.json").write_text('{"../a": {"sha256": "0"}}')
    before = sizes(home)
    status, out, err = evaluate(home, *FEW, *arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
    assert message in err and sizes(home) == before
