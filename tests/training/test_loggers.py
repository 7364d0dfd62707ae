"""The loggers csv, wandb and mlflow: what they write, read back; what happens on a resume."""

import csv
import json
import socket
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from cli.compose import check_overrides, plain
from cli.overrides import Overrides
from cli.parts import part_problems
from cli.resume import typed_keys
from commands import ROOT, TINY, command_here, write_text
from runs import Killed, fit
from training.loggers import Csv, _Service
from training.resume_point import ResumePoint, cut_rows

SINGLE = (("logger=csv", ["csv"]), ("logger=none", []))
SPEED = "train/tokens_per_second"


def rows_of(run: Path) -> list[dict[str, float]]:
    """The rows of the run's metrics.csv, without what is empty and what the machine decides."""
    with open(run / "csv/metrics.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [{k: v for k, v in row.items() if k != SPEED} for row in rows]


def lines_of(run: Path) -> list[dict[str, float]]:
    """The same of metrics.jsonl."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != SPEED} for line in lines]


def test_csv_has_every_line_once_also_after_a_kill(home: Path) -> None:
    with pytest.raises(Killed):
        fit(home, "csv", "logger=csv", stop=6)
    assert rows_of(home / "csv") == lines_of(home / "csv") and len(rows_of(home / "csv")) > 6
    with open(home / "csv/csv/metrics.csv", "a") as file:
        file.write("99,0.5")  # a line that was cut off
    fit(home, "csv", f"resume={home / 'csv'}", "logger=csv")
    rows = rows_of(home / "csv")
    assert rows == lines_of(home / "csv")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(1, 11))
    assert "d_model: 32" in (home / "csv/csv/hparams.yaml").read_text()


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "wandb").mkdir()  # as wandb itself leaves in the working directory
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    for name in ("wandb", "mlflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    config = yaml.safe_load((ROOT / "configs/logger/wandb.yaml").read_text())
    config |= yaml.safe_load((ROOT / "configs/logger/mlflow.yaml").read_text())
    assert part_problems({"callbacks": None, "logger": config}) == [
        "logger=wandb: needs the package wandb; pip install '.[loggers]'",
        "logger=mlflow: needs the package mlflow; pip install '.[loggers]'",
    ]


@pytest.mark.slow
def test_several_loggers_are_several_options() -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for line, names in (("logger=[tensorboard,csv]", ["tensorboard", "csv"]), *SINGLE):
            check_overrides(Overrides([line]), [], "train")
            assert list(compose("train", [line]).logger) == names
            typed = typed_keys(Overrides([line]), plain(compose("train", [line])))
            assert {key.split(".")[1] for key in typed} == set(names)


def test_csv_keeps_its_rows_where_a_column_comes_later(tmp_path: Path) -> None:
    for name, step in (("b", 1), ("c", 2), ("a", 3)):
        Csv(str(tmp_path)).log_metrics({name: step / 2}, step)  # each as a run that goes on
    assert rows_of(tmp_path) == [{"step": 1, "b": 0.5}, {"step": 2, "c": 1}, {"step": 3, "a": 1.5}]
    cut_rows(tmp_path / "csv/metrics.csv", ResumePoint(2))
    assert rows_of(tmp_path) == [{"step": 1, "b": 0.5}, {"step": 2, "c": 1}]
    assert not list(tmp_path.rglob("*.part"))


class Away:
    """A server that is not there."""

    calls = 0

    def log_metrics(self, metrics: object, step: int | None) -> None:
        self.calls += 1
        raise ConnectionError("no route\nto host")


class Remote(_Service, Away):
    label = "x"


def test_a_service_that_fails_on_the_way_is_left_out(capsys) -> None:
    logger = Remote()
    for step in (1, 2):
        logger.log_metrics({}, step)
    assert logger.calls == 1
    assert capsys.readouterr().out == "logger.x: no route; the run goes on without it\n"


@pytest.fixture
def network(monkeypatch):
    """Whatever goes out by HTTP comes here; the sockets of those that called are collected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "")
        server.settimeout(0.2)
        yield server


def nobody_called(server: socket.socket) -> bool:
    try:
        server.accept()
    except TimeoutError:
        return True
    return False


@pytest.mark.slow
def test_wandb_offline_holds_config_curves_and_results(
    home: Path, network, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("wandb")
    from wandb_file import records

    away = tmp_path  # where it would go by itself
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(away))
    monkeypatch.delenv("WANDB_CACHE_DIR", raising=False)
    runs = []
    for name in ("w1", "w2"):  # as jobs of a sweep, in one process
        runs.append(fit(home, name, "logger=wandb", "name=mine"))
        results = runs[-1].results(1.0)
        runs[-1].write_results(results)
        (file,) = (home / name).glob("wandb/offline-run-*/*.wandb")
        found = list(records(file))
        config = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for record in found
            for item in [*record.run.config.update, *record.config.update]
        }
        assert config["model.d_model"] == 32 and config["optimizer.lr"] > 0
        history = [
            {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in r.history.item}
            for r in found
            if r.WhichOneof("record_type") == "history"
        ]
        losses = {h["trainer/global_step"]: h["val/loss"] for h in history if "val/loss" in h}
        assert losses == {
            line["step"]: line["val/loss"] for line in lines_of(home / name) if "val/loss" in line
        }
        summary = {
            i.key or "/".join(i.nested_key): json.loads(i.value_json)
            for record in found
            for i in record.summary.update
        }
        assert summary["val/loss"] == results["val/loss"] and summary["ended"] == "max_steps"
        (display,) = {r.run.display_name for r in found if r.run.display_name}
        assert display == f"mine/{name}"
        assert not [path for path in (home / name).rglob("*") if path.is_symlink()]
    fit(home, "w2", f"resume={home / 'w2'}", "logger=wandb", "trainer.max_steps=12")
    assert len(list((home / "w2").glob("wandb/offline-run-*"))) == 2
    assert nobody_called(network)
    assert not (Path.cwd() / "wandb").exists() and not list(away.rglob("*"))


@pytest.mark.slow
def test_mlflow_in_files_holds_config_curves_and_results(home: Path, network, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    run = fit(home, "m", "logger=mlflow", "name=mine")
    results = run.results(1.0)
    run.write_results(results)
    from mlflow.tracking import MlflowClient

    client = MlflowClient((home / "m/mlflow").as_uri())
    experiment = client.get_experiment_by_name("ropewalk")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "mine/m"
    assert found.data.params["model.d_model"] == "32"
    curve = client.get_metric_history(found.info.run_id, "val/loss")
    assert {point.step: point.value for point in curve} == {
        line["step"]: line["val/loss"] for line in lines_of(home / "m") if "val/loss" in line
    }
    assert found.data.metrics["final/val/loss"] == results["val/loss"]
    fit(home, "m", f"resume={home / 'm'}", "logger=mlflow", "trainer.max_steps=12")
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert nobody_called(network)


@pytest.mark.slow
def test_a_server_that_is_not_there_is_told_before_the_first_step(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    write_text(tmp_path / "text.txt", lines=100)
    server = ("logger=[csv,mlflow]", "logger.mlflow.tracking_uri=http://127.0.0.1:1")
    done = command_here(
        *("train.py", *TINY, "data.path=text.txt", "run_dir=run", *server), cwd=tmp_path
    )
    assert done.returncode == 2 and done.stderr.startswith("error: logger.mlflow: ")
    assert not (tmp_path / "run").exists()
