"""What a comparison leaves: JSON, CSV, Markdown, pictures, TensorBoard; and that they agree."""

import csv
import html
import json
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fake_runs import write_run
from reports import compare_runs
from reports.comparing import compare, draw
from reports.curves_figure import BINS, binned, limits, mean_curve
from reports.files import write_files
from reports.run_files import RunFiles

LOSSES = {0.001: [3.0, 3.01], 0.01: [3.5, 3.51], 0.1: [4.0, 4.02], 1.0: [5.0, 5.1]}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs of a sweep, compared in its own directory."""
    home = tmp_path_factory.mktemp("runs") / "x/20260101-120000"
    runs = [
        write_run(home / f"lr={lr},seed={seed}", loss, seed=seed, optimizer__lr=lr)
        for lr, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    ]
    compare_runs(runs, lambda: home)
    return home


def test_the_files_say_the_same(sweep: Path) -> None:
    found = json.loads((sweep / "comparison.json").read_text())
    assert found["clear_best"] == "lr=0.001" and found["compared_by"] == "val/loss"
    assert found["paired_by_seed"] is True and found["degrees_of_freedom"] == 3
    best, second = found["groups"][:2]
    assert best["figures"]["val/loss"]["mean"] == pytest.approx(3.005)
    low, high = second["figures"]["val/loss"]["above_best_ci95"]
    assert 0 < low < 0.5 < high and best["bpb"]["none"]["128"] == pytest.approx(3.205)
    rows = list(csv.DictReader((sweep / "comparison.csv").open()))
    assert len(rows) == len(found["runs"]) == 8
    assert [row["label"] for row in rows][:2] == ["lr=0.001,seed=0", "lr=0.001,seed=1"]
    assert [float(row["val/loss"]) for row in rows] == [r["val/loss"] for r in found["runs"]]
    assert float(rows[0]["bpb/yarn/64"]) == 3.1 and rows[0]["optimizer.lr"] == "0.001"
    text = (sweep / "comparison.md").read_text()
    assert "| 0.001 | 0,1 | **3.0050 ±" in text and text.count("**") == 2
    for line in found["verdict"]:
        assert line.replace("_", "\\_") in text


def test_tensorboard_has_the_words_and_the_pictures(sweep: Path) -> None:
    assert len([*(sweep / "comparison").iterdir()]) == 1
    events = EventAccumulator(str(sweep / "comparison")).Reload()
    assert events.Tags()["images"] == ["val_comparison/curves", "val_comparison/extrapolation"]
    (shown,) = events.Tensors("comparison")
    text = shown.tensor_proto.string_val[0].decode()
    assert text.startswith("# 8 runs of fake") and "| 0.001 | 0,1 | **3.0050 ±" in text
    assert "| seconds |" not in text.partition("## Each run")[0]  # for which there is no room
    image = events.Images("val_comparison/curves")[0]
    assert image.encoded_image_string == (sweep / "curves.png").read_bytes()
    assert (image.width, image.height) == Image.open(sweep / "curves.png").size


def test_the_page_says_the_same(sweep: Path) -> None:
    page = html.unescape((sweep / "report.html").read_text())
    for line in json.loads((sweep / "comparison.json").read_text())["verdict"]:
        assert line in page


@pytest.mark.slow
def test_once_more_takes_the_place_of_the_first(sweep: Path) -> None:
    names = sorted(path.name for path in sweep.iterdir())
    runs = [path.parent for path in sorted(sweep.glob("*/.hydra"))]
    compare_runs(runs, lambda: sweep)
    assert sorted(path.name for path in sweep.iterdir()) == names
    assert len([*(sweep / "comparison").iterdir()]) == 1
    assert {"curves.png", "extrapolation.png"} <= {*names}


def test_runs_of_no_sweep_get_no_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.comparing.draw", lambda comparison: None)  # takes its time
    runs = [write_run(tmp_path / f"{i}", 3.0 + i, optimizer__lr=i) for i in (1, 2)]
    out = tmp_path / "out"
    compare_runs(runs, lambda: out.mkdir() or out)
    assert not (out / "comparison").exists() and (out / "comparison.md").exists()


def test_nothing_is_made_where_no_run_is_finished(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", None)
    with pytest.raises(ValueError, match=f"{run}: not finished.*resume={run}"):
        compare_runs([run], lambda: pytest.fail("made"))


def test_a_picture_is_drawn_of_what_is_there_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / "metrics.jsonl").unlink()
    (run / "extrapolation.json").unlink()
    found = compare([RunFiles.read(run)])
    draw(found)
    assert found.figures == {}


def labels_in(figure) -> list[str]:
    return [text.get_text().split(" ")[0] for ax in figure.axes for text in ax.texts]


def test_of_many_groups_the_best_are_named(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{i}", 3 + i / 10, optimizer__lr=i) for i in range(1, 15)]
    found = compare([RunFiles.read(run) for run in reversed(runs)])
    draw(found)
    named = [f"lr={i}" for i in range(1, 7)]
    assert sorted(labels_in(found.figures["curves"])) == named
    assert len(found.figures["curves"].axes[0].lines) >= 14  # the others are there, in grey


def test_a_panel_for_each_method_that_two_groups_share(tmp_path: Path) -> None:
    shared = [("none", "yarn"), ("yarn", "none", "ntk"), ("none",)]
    runs = [write_run(tmp_path / f"{i}", optimizer__lr=i, methods=m) for i, m in enumerate(shared)]
    found = compare([RunFiles.read(run) for run in runs])
    draw(found)
    panels = found.figures["extrapolation"].axes
    assert [ax.get_title(loc="left") for ax in panels] == ["none: as trained", "yarn"]
    assert panels[0].get_ylim() == panels[1].get_ylim()
    assert "lr=2" in labels_in(panels[0].figure) and "trained" in [
        text.get_text().split()[0] for text in panels[1].texts
    ]


def test_curves_are_averaged_where_all_have_a_point() -> None:
    assert mean_curve([[(1, 2.0), (2, 4.0)], [(2, 6.0), (3, 1.0)]]) == [(2, 5.0)]
    many = [(i, float(i)) for i in range(1000)]
    short = binned(many)
    assert len(short) <= BINS and sum(y for _, y in short) / len(short) == pytest.approx(
        499.5, 0.01
    )


def test_the_axis_leaves_out_the_fall_and_what_runs_away() -> None:
    good = [[(x, 3 + i / 50 + 1 / x) for x in range(1, 101)] for i in range(4)]
    low, high = limits(good, [])
    assert 2.9 < low < 3.02 and 3.1 < high < 3.3  # though all begin at 4
    low, high = limits([*good, [(x, 9.0 + x) for x in range(1, 101)]], [])
    assert high < 3.4


def test_steps_of_other_sizes_are_drawn_in_tokens(tmp_path: Path) -> None:
    sizes = ({"tokens": 100}, {"tokens": 200})
    runs = [
        write_run(tmp_path / f"{i}", data__batch_size=i, results=size)
        for i, size in enumerate(sizes)
    ]
    found = compare([RunFiles.read(run) for run in runs])
    draw(found)
    ax = found.figures["curves"].axes[0]
    assert ax.get_xlabel() == "tokens" and ax.get_xlim()[1] == pytest.approx(202)


def test_a_directory_whose_name_is_no_unicode(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path / "\udcff"))
    write_files(compare([run]), tmp_path)
    assert "/?" in (tmp_path / "comparison.csv").read_text()
