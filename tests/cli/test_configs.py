"""Every config file composes and passes the project's own checks; the help answers at once."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from cli.check import check_job
from cli.compose import composed, group_options, plain
from cli.overrides import Overrides
from cli.plan import plan_run
from commands import ROOT, command

CONFIGS = ROOT / "configs"
GROUPS = [path.name for path in sorted(CONFIGS.iterdir()) if path.is_dir()]
OPTIONS = [(group, option) for group in GROUPS for option in group_options(group)]
# What an option cannot do without.
NEEDS = {
    ("data", "text"): ["data.path=x.txt"],
    ("data", "huggingface"): ["data.path=owner/name"],
    ("scaling", "linear"): ["scaling.factor=2"],
    ("scaling", "ntk"): ["scaling.factor=2"],
    ("scaling", "ntk-by-parts"): ["scaling.factor=2", "scaling.train_length=256"],
    ("scaling", "yarn"): ["scaling.factor=2", "scaling.train_length=256"],
    ("scaling", "llama3"): ["scaling.factor=2", "scaling.train_length=256"],
    ("scaling", "dynamic"): ["scaling.train_length=256"],
    ("scaling", "longrope"): [
        "scaling.train_length=256",
        f"scaling.options.short_factor={[1.0] * 16}",
        f"scaling.options.long_factor={[2.0] * 16}",
    ],
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_is_valid(group: str, option: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    if option in ("wandb", "mlflow") and find_spec(option) is None:
        pytest.skip(f"{option} is not installed")
    overrides = [f"{group}={option}", *NEEDS.get((group, option), [])]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides)
    planned = plan_run(config, Overrides(overrides)).config
    assert planned["name"]
    assert plain(config)["model"]["n_layers"] >= 1


def test_there_is_an_experiment() -> None:
    assert ("experiment", "shakespeare") in OPTIONS


@pytest.mark.parametrize("experiment", group_options("experiment"))
def test_an_experiment_goes_without_callbacks(experiment: str) -> None:
    lines = [f"experiment={experiment}", "callbacks=none", "logger=none"]
    check_job(plain(composed("train", lines)), Overrides(lines))


def processor_seconds() -> float:
    """What the processes took that were started here, however busy the machine is."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "generate.py"])
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]])
def test_help_and_config_answer_at_once(script: str, flags: list[str], tmp_path: Path) -> None:
    started = processor_seconds()
    done = command(script, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checkpoint" in done.stdout or "seed" in done.stdout
    if flags == ["--help"]:
        assert f"python {script}" in done.stdout
    assert processor_seconds() - started < 5
    assert list(tmp_path.iterdir()) == []
