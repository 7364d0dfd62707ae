"""The config of a resumed run: the run's own keys, today's objects."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cli.compose import check_overrides, plain
from cli.errors import UserError
from cli.overrides import Overrides
from cli.resume import check_whole, resumed_config
from commands import ROOT
from training.parts import build_callbacks
from training.phases import build_phases, final_config


def today(*overrides: str) -> DictConfig:
    """The composed config of train.py."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def resumed(run: Path, *overrides: str, **changed: Any) -> dict[str, Any]:
    """The config of a resumed run that was saved by a revision without phases (a2e66d8)."""
    saved = plain(today(*overrides)) | changed
    del saved["phases"]
    saved["callbacks"]["progress"]["_target_"] = "training.progress.Progress"
    saved["callbacks"]["samples"]["_target_"] = "training.samples.Samples"
    (run / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(saved), run / ".hydra/config.yaml")
    return resumed_config(today(), Overrides(), run)


def test_objects_of_an_older_revision_are_todays(tmp_path: Path) -> None:
    config = resumed(tmp_path)
    names = [
        type(callback).__module__ for callback in build_callbacks(config["callbacks"]).values()
    ]
    assert names == ["training.callbacks.progress", "training.callbacks.samples"]


def test_phases_are_todays_with_the_keys_of_the_run(tmp_path: Path) -> None:
    config = resumed(tmp_path, "drop_positions_at=40")
    assert [phase.__dict__ for phase in build_phases(config)] == [
        {"at": 40},
        {"start": 0, "passages": None},
    ]
    assert final_config(config)["position"] == "nope" and config["position"] == "rope"


def test_a_class_that_a_run_names_is_never_used(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    saved = plain(today("crossbatch_from=3"))
    saved["phases"] = {"join_passages": {"_target_": "os.system", "command": "false"}}
    saved["phases"]["more"] = {"_target_": "os.system", "command": "false"}
    OmegaConf.save(OmegaConf.create(saved), tmp_path / ".hydra/config.yaml")
    config = resumed_config(today(), Overrides(), tmp_path)
    assert config["phases"] == plain(today("crossbatch_from=3"))["phases"]


@pytest.mark.parametrize("key", ["drop_positions_at=5", "crossbatch_from=5", "model.window=64"])
def test_every_key_is_fixed_but_those_that_may_change(tmp_path: Path, key: str) -> None:
    resumed(tmp_path)
    with pytest.raises(UserError, match=f"{key}: the run began with .* cannot change half-way"):
        resumed_config(today(key), Overrides([key]), tmp_path)


@pytest.mark.parametrize("key", ["trainer.max_steps=900", "compile=true", "data.num_workers=2"])
def test_what_may_change(tmp_path: Path, key: str) -> None:
    resumed(tmp_path)
    config = OmegaConf.create(resumed_config(today(key), Overrides([key]), tmp_path))
    name, _, value = key.partition("=")
    assert str(OmegaConf.select(config, name)).lower() == value


def test_a_phase_is_set_by_its_own_key_alone() -> None:
    typed = "phases.drop_positions.at=5"
    with pytest.raises(UserError, match=f"{typed}: is set by another key; configs/phases/"):
        check_overrides(Overrides([typed]), [], "train")


def test_what_may_change_half_way_is_said_where_the_file_has_changed(
    tmp_path: Path, capsys
) -> None:
    config = resumed(tmp_path)
    del config["phases"]
    check_whole(tmp_path, config, config, config)
    assert capsys.readouterr().out == ""
    checkpoint = config | {"trainer": config["trainer"] | {"gradient_clip_val": None}}
    check_whole(tmp_path, config, config, checkpoint)
    said = "trainer.gradient_clip_val=1.0 in .hydra/config.yaml, null in the checkpoint"
    assert capsys.readouterr().out == f"resume={tmp_path}: {said}\n"
