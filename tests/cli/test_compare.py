"""python compare.py as a user types it, its mistakes, and the end of a sweep."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cli.compose import composed
from cli.overrides import Overrides, with_words
from cli.sweep import after
from commands import TINY, command, command_here, refused, write_text
from fake_runs import write_run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the runs of a sweep, two single runs, one of them unfinished."""
    monkeypatch.chdir(tmp_path)
    for lr, loss in ((0.001, 3.0), (0.01, 3.5)):
        for seed in (0, 1):
            place = Path(f"runs/x/20260101-120000/lr={lr},seed={seed}")
            run = write_run(place, loss + seed / 100, seed=seed, optimizer__lr=lr)
            for name in ("metrics.jsonl", "extrapolation.json"):  # pictures take their time
                (run / name).unlink()
    y = write_run(Path("runs/y/20260101-130000"), 3.2, position="alibi")
    (y / "extrapolation.json").unlink()
    write_run(Path("runs/z/20260101-140000"), None, position="nope")
    return tmp_path


def test_words_are_paths_and_keys_are_keys() -> None:
    words = ["runs/a", "runs/x/lr=0.1,seed=1", "it's", "figures=svg", "hydra/launcher=x", "-m"]
    *others, runs = with_words(words, "runs")
    assert others == ["figures=svg", "hydra/launcher=x", "-m"]
    assert composed("compare", [runs]).runs == ["runs/a", "runs/x/lr=0.1,seed=1", "it's"]
    assert Overrides([runs]).typed.keys() == {"runs"}
    assert with_words(["--cfg", "job"], "runs") == ["--cfg", "job"]


def test_runs_by_name(home: Path) -> None:
    job = "runs/x/20260101-120000/lr=0.001,seed=0"
    done = command_here("compare.py", job, "runs/y/*", "figures=[svg]", cwd=home)
    assert done.returncode == 0, done.stderr
    where = re.search(r"results: (runs/comparisons/.+)", done.stdout)
    assert where and (home / where[1] / "curves.svg").exists()
    assert "Lowest: position=rope, val/loss 3.0000" in done.stdout
    assert "one seed: whether that is more than noise is not known" in done.stdout


def test_the_directory_of_a_sweep_gets_its_comparison(home: Path) -> None:
    sweep = Path("runs/x/20260101-120000")
    done = command_here("compare.py", str(sweep), cwd=home)
    assert done.returncode == 0 and f"results: {sweep}\n" in done.stdout
    assert json.loads((sweep / "comparison.json").read_text())["clear_best"] == "lr=0.001"
    assert "│ *3.0050 ±" in done.stdout and (sweep / "comparison").is_dir()
    again = command_here("compare.py", *map(str, sweep.glob("[!.]*")), "output_dir=o", cwd=home)
    assert "results: o\n" in again.stdout and Path("o/comparison.md").exists()


def test_a_run_named_twice_and_one_unfinished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.comparing.draw", lambda comparison: None)  # takes its time
    done = command_here("compare.py", "runs/y/20260101-130000", "runs/*/*", cwd=home)
    assert "runs/y/20260101-130000: named more than once, counted once" in done.stdout
    assert "Not finished, and so without figures: " in done.stdout
    assert "position=nope" in done.stdout
    written = next(Path("runs/comparisons").glob("*/comparison.json"))
    assert len(json.loads(written.read_text())["runs"]) == 5


MISTAKES = [
    ([], "name the runs to compare: python compare.py runs/a runs/b"),
    (["nope"], "nope: no such directory; name runs"),
    (["runs/q*"], "runs/q*: no such directory"),
    (["empty", "file"], "empty: holds no run; name directories", "file: holds no run"),
    (["runs/z/20260101-140000"], "not finished, so that there is nothing to compare"),
    (["runs", "figrues=svg"], "figrues=svg: no such key; did you mean figures?"),
    (["runs", "figures=jpg"], "figures=jpg: must be one of png, svg, pdf"),
    (["runs", "output_dir=file"], "output_dir=file: cannot be made"),
    (["runs", "output_dir=runs/y/20260101-130000"], "holds a run, whose files it would replace"),
    (["runs", "runs=[a]"], "runs=[a]: runs is named beside it"),
    (["runs=5"], "runs=5: must be a list"),
    (["damaged"], "damaged/results.json: is damaged", "leave this run out"),
]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: " ".join(case[0]))
def test_a_mistake_is_told_and_nothing_is_made(
    case: tuple, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    (write_run(Path("damaged")) / "results.json").write_text("{")
    words, *said = case
    message = refused("compare.py", *words, monkeypatch=monkeypatch, capfd=capfd)
    for part in said:
        assert part in message
    assert not Path("runs/comparisons").exists()


def test_a_sweep_ends_with_its_comparison(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = Path("runs/x/20260101-120000")
    after(sorted(sweep.iterdir()))
    *_, results, curves = capsys.readouterr().out.splitlines()
    assert results == f"results: {sweep}" and curves == f"curves:  tensorboard --logdir {sweep}"
    assert (sweep / "comparison.json").exists()


def test_a_sweep_of_one_says_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after([Path("runs/y/20260101-130000"), Path("gone")])
    assert capsys.readouterr().out == ""


def test_a_sweep_that_cannot_be_compared_has_ended_all_the_same(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = sorted(Path("runs/x/20260101-120000").iterdir())
    (jobs[0] / "results.json").write_text("{")
    after(jobs)
    said, curves = capsys.readouterr().out.splitlines()
    assert said.startswith(f"the runs are not compared: {jobs[0]}/results.json: is damaged")
    assert curves.startswith("curves:")


@pytest.mark.slow
def test_a_real_sweep_is_read_from_terminal_files_and_events(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    swept = ("optimizer.lr=0.01,0.00001", "seed=0,1", "-m")
    options = (
        "data.path=text.txt",
        "figures=svg",
        "evaluation.methods=[none,yarn]",
        "callbacks=none",
    )
    done = command("train.py", *TINY, *options, *swept, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (home,) = (tmp_path / "runs").glob("*/*")
    found = json.loads((home / "comparison.json").read_text())
    losses: dict[str, list[float]] = {}
    for run in home.glob("*/results.json"):
        lr = run.parent.name.partition(",")[0]
        losses.setdefault(lr, []).append(json.loads(run.read_text())["val/loss"])
    means = {group["label"]: group["figures"]["val/loss"]["mean"] for group in found["groups"]}
    assert means == pytest.approx({lr: sum(both) / 2 for lr, both in losses.items()})
    best = min(means, key=means.__getitem__)
    assert best == "lr=0.01" and found["groups"][0]["label"] == best
    for line in found["verdict"]:
        assert line in done.stdout
    assert f"{means[best]:.4f}" in done.stdout
    assert f"results: {home.relative_to(tmp_path)}" in done.stdout
    assert (home / "curves.svg").exists() and (home / "extrapolation.svg").exists()
    events = EventAccumulator(str(home / "comparison")).Reload()
    text = events.Tensors("comparison")[0].tensor_proto.string_val[0].decode()
    assert f"{means[best]:.4f}" in text
    assert events.Tags()["images"] == ["val_comparison/curves", "val_comparison/extrapolation"]


@pytest.mark.slow
def test_no_torch_is_loaded(home: Path) -> None:
    """In a process of its own: the others of this one have it by now."""
    shutil.rmtree("runs/z")
    script = home / "ask.py"
    script.write_text(
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "assert 'torch' not in sys.modules\n"
    )
    from commands import ROOT

    done = command(str(script), str(ROOT / "compare.py"), "runs", cwd=home, python_path=ROOT)
    assert done.returncode == 0, done.stderr
