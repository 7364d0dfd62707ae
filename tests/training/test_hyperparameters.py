"""The rows of HParams, as TensorBoard's own code reads them from directories of runs."""

import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

import training.run
from commands import write_text
from runs import Killed, fit
from tensorboards import SHOWN, events, hparams, points
from training.hyperparameters import columns, curves, log_row, logged_columns

VALUES = {
    **{"crossbatch_from": 0, "seed": 0, "optimizer.lr": 0.01, "model.n_layers": 2},
    **{"model.d_model": 32, "model.n_heads": 2, "rope.backend": "pytorch"},
    **{"rope.theta": 1e4, "model.window": "null", "trainer.max_steps": 10},
}
TAGS = ["val/loss_best", "val/bpb"]


def log(home: Path, name: str, swept: list[str], **values: object) -> None:
    """A run as it leaves its row and its curves."""
    logger = TensorBoardLogger(str(home / name), name="", version="tensorboard")
    log_row(logger, VALUES | values, columns(VALUES, swept), TAGS)
    for tag in TAGS:
        logger.log_metrics({tag: 2.5}, step=10)
    logger.finalize("success")


def test_a_sweep_has_a_full_row_for_each_job_and_the_swept_keys_first(tmp_path: Path) -> None:
    swept = ["rope.theta", "model.window"]
    for theta in (1e3, 1e4):
        for window in (8, "null"):
            job = {"rope.theta": theta, "model.window": window}
            name = f"theta={theta},window={window}"
            log(tmp_path, name, swept, **job)
    log(tmp_path, "theta=10000.0,by itself", [])  # a run by itself takes nothing away
    keys, metrics, rows = hparams(tmp_path)
    assert set(keys[:2]) == set(swept) and len(keys) < SHOWN  # so that metrics are in sight
    assert metrics == TAGS and len(rows) == 5
    for name, cells in rows.items():
        assert all(key in cells for key in [*keys, *metrics]), name  # none is blank
        theta = float(name.split(",")[0].removeprefix("theta="))
        assert cells["rope.theta"] == theta and cells["val/loss_best"] == 2.5


def test_among_runs_by_themselves_what_differs_stands_first(tmp_path: Path) -> None:
    log(tmp_path, "one", [])
    log(tmp_path, "two", [], **{"trainer.max_steps": 20})
    log(tmp_path, "three", [], **{"trainer.max_steps": 30})
    keys, metrics, rows = hparams(tmp_path)
    assert keys[0] == "trainer.max_steps" and len(rows) == 3
    assert all(key in cells for cells in rows.values() for key in [*keys, *metrics])


def test_columns_of_a_group_are_its_sizes_and_of_other_keys_none() -> None:
    found = columns(VALUES, ["rope", "model", "callbacks", "name"])
    first = ["rope.backend", "model.n_layers", "model.d_model", "model.n_heads"]
    assert found == dict.fromkeys(first, True) | {"seed": False, "optimizer.lr": False}
    assert columns(VALUES, ["name"]) == columns(VALUES, []) == {}


def test_curves_are_those_that_a_run_will_have() -> None:
    asked = {"lengths": None, "methods": ["none", "linear", "yarn@8.0"], "measures": ["loss"]}
    config = {"evaluation": asked, "position": "rope"}
    past = [f"val_extrapolation/bpb/{name}" for name in ("none", "yarn@8", "linear")]
    own = ["val/loss_best", "val/bpb", "train/tokens_per_second"]
    assert curves(config) == own + past
    assert curves(config | {"position": "alibi"}) == own + past[:1]
    assert curves(config | {"evaluation": asked | {"lengths": [32]}}) == own  # one is no curve
    assert curves(config | {"evaluation": asked | {"measures": ["passkey"]}}) == own


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rows")
    write_text(home / "text.txt", 300)
    return home


def test_a_resumed_run_has_one_row_with_its_first_columns_and_no_point_twice(
    home: Path, monkeypatch
) -> None:
    options = ("logger=tensorboard", "trainer.val_check_interval=2", "trainer.max_steps=6")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        job = columns(dict.fromkeys(("optimizer.lr", "seed"), 1), ["optimizer.lr"])
        patched.setattr(training.run, "columns", lambda *_: job)
        fit(home, "run", *options, stop=4)
    run = fit(home, "run", f"resume={home / 'run'}", *options)
    keys, _, rows = hparams(home / "run")
    assert len(rows) == 1 and keys == ["optimizer.lr", "seed"]
    directory = home / "run/tensorboard"
    assert logged_columns(directory) == {"optimizer.lr": True, "seed": False}
    files = [path.read_bytes() for path in directory.glob("events*")]
    assert len(files) == 2
    assert sum(file.count(b"_hparams_/session_start_info") for file in files) == 1
    tags = events(directory).Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags} == {"train", "val"}  # and no dots of results
    lowest, losses = (points(directory, tag) for tag in ("val/loss_best", "val/loss"))
    assert [step for step, _ in losses] == [2, 4, 6]
    assert lowest == [
        (step, min(loss for _, loss in losses[: i + 1])) for i, (step, _) in enumerate(losses)
    ]
    assert lowest[-1][1] == pytest.approx(run.results(1.0)["val/loss"])


@pytest.mark.slow
def test_the_lowest_loss_stays_where_later_ones_are_higher(home: Path) -> None:
    """Also right after a resume: the best of before counts, in each line of metrics.jsonl."""
    options = ("optimizer.lr=3", "trainer.val_check_interval=1", "trainer.max_steps=4")
    with pytest.raises(Killed):
        fit(home, "worse", *options, "optimizer.warmup_steps=1", stop=2)
    run = fit(home, "worse", f"resume={home / 'worse'}", *options, "optimizer.warmup_steps=1")
    lines = map(json.loads, (home / "worse/metrics.jsonl").read_text().splitlines())
    logged = [(line["val/loss"], line["val/loss_best"]) for line in lines if "val/loss" in line]
    losses = [loss for loss, _ in logged]
    assert len(logged) == 4 and losses[2] > losses[0]  # the first after the resume
    assert [lowest for _, lowest in logged] == [min(losses[: i + 1]) for i in range(4)]
    assert run.results(1.0)["val/loss"] == min(losses)
