"""A run's directory as plain data: whole, older, cut off, damaged."""

from pathlib import Path

import pytest

from fake_runs import LENGTHS, write_run
from reports.find import find_runs, sweep_directory
from reports.run_files import RunFiles


def test_everything_is_read(tmp_path: Path) -> None:
    (write_run(tmp_path / "a", 3.0, typed=("seed=1",), seed=1) / "samples.txt").write_text("once")
    run = RunFiles.read(tmp_path / "a")
    assert run.config["optimizer"]["lr"] == 0.001 and run.overrides == ["seed=1"]
    assert run.results is not None and run.results["val/loss"] == 3.0
    assert run.extrapolation is not None and run.extrapolation["lengths"] == LENGTHS
    assert run.curve("val/loss")[0] == (10, 3.4) and len(run.curve("val/loss")) == 10
    assert run.environment["device"] == "cpu" and run.samples == "once"


def test_an_older_or_unfinished_run_has_less(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/config.yaml").write_text("seed: 1\nlr: 1e-3\n")
    run = RunFiles.read(tmp_path)
    assert run.config == {"seed": 1, "lr": 0.001}
    assert run.results is None and run.extrapolation is None and run.samples == ""
    assert run.overrides == [] and run.metrics == [] and run.environment == {}
    given = {"val/loss": 1.0, "val/bpb": 2.0}
    assert RunFiles.read(tmp_path, given).results == given


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    with open(tmp_path / "a/metrics.jsonl", "a") as file:
        file.write('{"step": 5, "val/loss": null}\nnull\n{"step": 110, "val/l')
    steps = [step for step, _ in RunFiles.read(tmp_path / "a").curve("val/loss")]
    assert steps == list(range(10, 101, 10))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.json", '{"val/loss": NaN, "val/bpb": 1}'),
        ("results.json", '{"val/loss": "3", "val/bpb": 1}'),
        ("results.json", '{"val/loss": 1%s, "val/bpb": 1}' % ("0" * 400)),
        ("results.json", '{"val/loss": 3, "val/bpb": 1, "seconds": "12"}'),
        ("results.json", '{"val/loss": 3, "val/bpb": 1, "tokens": [1]}'),
        ("results.json", '{"val/loss": 3, "val/bpb": 1, "text": ["a"]}'),
        ("extrapolation.json", '{"lengths": 5, "methods": {}}'),
        (
            "extrapolation.json",
            '{"train_length": 5, "lengths": [5], "methods": {"none": {"bpb": ["x"]}}}',
        ),
        ("extrapolation.json", '{"lengths": [5], "methods": {}, "protocol": {}}'),
        ("environment.json", "nothing"),
        (".hydra/config.yaml", "data: stdlib"),
        (".hydra/config.yaml", "seed: ["),
        (".hydra/config.yaml", ""),
        (".hydra/config.yaml", "a: &x [1]\nb: *x"),
        (".hydra/config.yaml", "a: ${oc.env:HOME}"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    write_run(tmp_path / "a")
    (tmp_path / "a" / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: is damaged"):
        RunFiles.read(tmp_path / "a")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run; give a directory"):
        RunFiles.read(tmp_path)


def test_runs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sweep = Path("runs/x/20260101-120000")
    jobs = [write_run(sweep / f"lr={lr},seed=[0]") for lr in (1, 2)]
    single = write_run(Path("runs/y/20260101-120001"))
    assert find_runs([str(sweep)]) == (jobs, [])
    assert find_runs(["runs/*/*"]) == ([*jobs, single], [])
    assert find_runs(["~/runs/y/*"])[0] == [tmp_path / single]
    assert find_runs([str(jobs[0]), str(single)])[0] == [jobs[0], single]  # a name, not a pattern
    assert find_runs(["runs", str(single)]) == ([*jobs, single], [single])
    (sweep / "comparison.json").touch()
    assert find_runs([*map(str, sorted(sweep.iterdir()))])[0] == jobs
    Path("runs/z").mkdir()
    with pytest.raises(ValueError, match=r"nope: no such directory.*\n.*/: holds no run"):
        find_runs(["nope", "runs/z/"])
    with pytest.raises(ValueError, match=r"runs/z\*: matches no run"):
        find_runs(["runs/z*"])


def test_a_sweep_is_all_of_its_runs(tmp_path: Path) -> None:
    sweep = tmp_path / "x/20260101-120000-2"
    jobs = [write_run(sweep / f"seed={seed}") for seed in (0, 1)]
    assert sweep_directory(jobs) == sweep
    assert sweep_directory(jobs[:1]) is None
    single = [write_run(tmp_path / f"y/20260101-12000{i}") for i in (0, 1)]
    assert sweep_directory(single) is None
