"""Nothing that a run's config names is ever called, however nested; it is plain data or refused."""

import copy
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cli.check import check_run, check_values
from cli.compose import plain
from cli.errors import UserError
from cli.overrides import Overrides
from cli.resume import resumed_config
from cli.rundir import save_config
from cli.saved_config import MOST_BYTES, read_config
from commands import ROOT

OBJECTS = ("trainer", "callbacks", "logger", "phases")


@cache
def today(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


TODAY = today()
SAVED = OmegaConf.to_yaml(plain(TODAY))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory with the config that train.py would have left."""
    (tmp_path / "run/.hydra").mkdir(parents=True)
    (tmp_path / "run/.hydra/config.yaml").write_text(SAVED)
    return tmp_path / "run"


def change(run: Path, **values: Any) -> None:
    """Make the run's config these dotted keys; all others are today's then."""
    saved: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        inner = saved
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(saved))


def resumed(run: Path, *typed: str) -> dict[str, Any]:
    """The config that a resumed run would be built from, as `cli.plan` makes it."""
    overrides = Overrides(list(typed))
    config = resumed_config(today(*typed), overrides, run)
    check_values(config, overrides)
    check_run(config, overrides)
    return config


def build(config: dict[str, Any]) -> None:
    """Make every object of a config, as a run does."""
    for group in OBJECTS:
        for settings in config[group].values() if group != "trainer" else ():
            extra = {"save_dir": "nowhere"} if group == "logger" else {}
            instantiate(settings | extra)
    instantiate({**config["trainer"], "_partial_": True})


def targets(node: Any) -> set[str]:
    """Every class that a config names."""
    if isinstance(node, dict):
        inner = (targets(value) for value in node.values())
        return set().union(*inner, {node["_target_"]} if "_target_" in node else set())
    return set().union(*map(targets, node)) if isinstance(node, list) else set()


# PAYLOAD stands for what makes a directory, the canary, when it is instantiated.
ATTACKS = {
    "trainer.plugins": ["PAYLOAD"],
    "trainer.profiler": "PAYLOAD",
    "trainer.limit_train_batches": [{"a": [{"b": "PAYLOAD"}]}],
    "trainer.max_steps": "PAYLOAD",
    "trainer._args_": ["PAYLOAD"],
    "trainer._target_": "os.mkdir",
    "trainer.barebones": {"deep": {"deeper": [["PAYLOAD"]]}},
    "callbacks.evil": "PAYLOAD",
    "callbacks.evil_list": ["PAYLOAD"],
    "callbacks.progress._args_": ["PAYLOAD"],
    "callbacks.progress": ["PAYLOAD"],
    "callbacks.samples.temperature": ["PAYLOAD"],
    "callbacks.samples.max_new_tokens": "PAYLOAD",
    "callbacks.samples._target_": "os.mkdir",
    "callbacks": ["PAYLOAD"],
    "logger.evil": "PAYLOAD",
    "logger.tensorboard.more": [{"a": [["PAYLOAD"]]}],
    "logger.tensorboard._target_": "os.mkdir",
    "logger": ["PAYLOAD"],
    "phases.evil": "PAYLOAD",
    "phases.drop_positions.at": ["PAYLOAD"],
    "phases": ["PAYLOAD"],
    "drop_positions_at": "PAYLOAD",
    "crossbatch_from": ["PAYLOAD"],
    "model.dropout": "PAYLOAD",
    "model.pattern": ["PAYLOAD"],
    "model.evil": "PAYLOAD",
    "model": "PAYLOAD",
    "rope.theta": ["PAYLOAD"],
    "scaling.options": {"a": "PAYLOAD"},
    "data.path": "PAYLOAD",
    "data.evil": ["PAYLOAD"],
    "optimizer.lr": "PAYLOAD",
    "evaluation.methods": ["PAYLOAD"],
    "seed": "PAYLOAD",
    "compile": ["PAYLOAD"],
    "position": "PAYLOAD",
    "_target_": "os.mkdir",
    "evil": "PAYLOAD",
}


def armed(value: Any, canary: Path) -> Any:
    """`value` with the payload in it."""
    if value == "PAYLOAD":
        return {"_target_": "os.mkdir", "path": str(canary)}
    if isinstance(value, dict):
        return {key: armed(entry, canary) for key, entry in value.items()}
    return [armed(entry, canary) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("key", ATTACKS)
def test_a_class_that_a_config_names_is_never_called(key: str, run: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    change(run, **{key: armed(copy.deepcopy(ATTACKS[key]), canary)})
    try:
        config = resumed(run)
    except UserError as error:
        assert key in str(error) or f"resume={run}: .hydra/config.yaml: " in str(error)
    else:
        assert targets(config) <= targets(plain(TODAY))
        build(config)
    assert not canary.exists()


@pytest.mark.parametrize("magic", ["_partial_", "_args_", "_recursive_", "_convert_"])
def test_no_other_word_of_hydras_gets_through(magic: str, run: Path, capsys: Any) -> None:
    places = ("trainer", "callbacks.samples", "logger.tensorboard")
    change(run, **{f"{place}.{magic}": ["object"] for place in places})
    config = resumed(run)
    assert all(magic not in str(config[group]) for group in ("trainer", "callbacks", "logger"))
    assert f"left out trainer.{magic}, callbacks.samples.{magic}" in capsys.readouterr().out


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Negative control: what the attacks hold does its work when it is instantiated."""
    instantiate({"a": armed([["PAYLOAD"]], tmp_path / "canary")})
    assert (tmp_path / "canary").is_dir()


def test_objects_typed_again_are_todays(run: Path, tmp_path: Path, capsys: Any) -> None:
    change(run, **{"callbacks.mine": armed("PAYLOAD", tmp_path / "canary")})
    typed = ("+callbacks.mine._target_=lightning.pytorch.callbacks.RichModelSummary",)
    config = resumed(run, *typed, "+callbacks.mine.max_depth=2")
    assert config["callbacks"]["mine"] == {
        "_target_": "lightning.pytorch.callbacks.RichModelSummary",
        "max_depth": 2,
    }
    assert "left out callbacks.mine.path; type it again to have it" in capsys.readouterr().out


def test_objects_of_an_option_chosen_today_take_the_place_of_the_runs(run: Path) -> None:
    assert resumed(run, "callbacks=none", "logger=none")["callbacks"] == {}


def test_a_logger_of_the_projects_goes_on_but_asks_no_server_of_the_runs(run: Path, capsys) -> None:
    away = {"tracking_uri": "http://evil.example", "experiment_name": "mine", "tags": {"a": "b"}}
    csv, wandb = {"_target_": "os.mkdir"}, {"offline": False, "settings": {"base_url": "http://e"}}
    change(run, logger={"csv": csv, "mlflow": away, "wandb": wandb})
    assert resumed(run)["logger"] == {
        "csv": {"_target_": "training.loggers.Csv"},
        "mlflow": {
            "_target_": "training.loggers.Mlflow",
            "experiment_name": "mine",
            "tracking_uri": None,
        },
        "wandb": {"_target_": "training.loggers.Wandb", "project": "ropewalk", "offline": True},
    }
    said = capsys.readouterr().out
    for key in ("mlflow.tracking_uri", "mlflow.tags", "wandb.offline", "wandb.settings"):
        assert f"logger.{key}" in said
    typed = ("logger=mlflow", "logger.mlflow.tracking_uri=http://mine.example")
    assert resumed(run, *typed)["logger"]["mlflow"]["tracking_uri"] == "http://mine.example"


def test_plain_keys_of_the_trainer_go_on(run: Path) -> None:
    change(run, **{"trainer.max_time": "00:08:00:00", "callbacks.samples.temperature": 0.3})
    config = resumed(run)
    assert config["trainer"]["max_time"] == "00:08:00:00"
    assert config["callbacks"]["samples"]["temperature"] == 0.3


@pytest.mark.parametrize("path", ["../../x", "/tmp/x", "a/../../x", "~/x", "..\\x", "C:\\x", ".."])
@pytest.mark.parametrize("key", ["logger.tensorboard.version", "callbacks.samples.dirpath"])
def test_paths_stay_inside_the_run(key: str, path: str, run: Path) -> None:
    change(run, **{key: path})
    with pytest.raises(UserError) as error:
        resumed(run)
    assert f"{key}={path}: must stay inside the run's directory" in str(error.value)
    assert resumed(run, f"++{key}=mine")  # as the user's own word does


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.d_model", "wide", "model.d_model=wide: must be an integer"),
        ("optimizer.lr", -1, "optimizer.lr=-1: must be"),
        ("trainer.devices", 8, "trainer.devices=8: must be"),
        ("model.droput", 5, "model.droput: there is no such key; did you mean"),
        ("colour", "red", "colour: there is no such key"),
        ("data", None, "data=null: must be a group of keys"),
        ("seed", {"a": 1}, "seed="),
        ("data.path", "${oc.env:HOME}", "data.path: holds ${…}"),
        ("callbacks.samples.temperature", "${seed}", "callbacks.samples.temperature: holds ${…}"),
        ("trainer.barebones", "${oc.decode:x}", "trainer.barebones: holds ${…}"),
        ("name", "\x1b[2J", "name: holds control characters"),
        ("evaluation.a.b", 1, "evaluation.a: there is no such key"),
        ("model.a.b.c", 1, "model.a: there is no such key"),
    ],
)
def test_todays_rules_hold(key: str, value: Any, said: str, run: Path) -> None:
    change(run, **{key: value})
    with pytest.raises(UserError) as error:
        resumed(run)
    assert said in str(error.value)


BOMB = "a0: &a0 [x,x,x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n},*a{n}]\n" for n in range(40))
FILES = {
    "empty": "",
    "a list": "- a\n- b\n",
    "a scalar": "hello",
    "null": "null\n",
    "a bomb of aliases": BOMB,
    "an alias": "model: &m {}\nrope: *m\n",
    "merge": "model:\n  <<: {d_model: 5}\n",
    "twice": "seed: 1\nseed: 2\n",
    "twice below": "model:\n  d_model: 1\n  d_model: 2\n",
    "a number as a key": "model:\n  5: 6\n",
    "true as a key": "true: 6\n",
    "a list as a key": "? [a, b]\n: 6\n",
    "dots in a key": "model.d_model: 5\n",
    "dots below": "model:\n  a.b: 5\n",
    "an object": "seed: !!python/object/apply:os.mkdir [CANARY]\n",
    "a new object": "seed: !!python/object/new:os.mkdir [CANARY]\n",
    "a name": "seed: !!python/name:os.system\n",
    "a module": "seed: !!python/module:os\n",
    "a path": "seed: !!python/object/apply:pathlib.PosixPath [a]\n",
    "binary": "seed: !!binary aGk=\n",
    "a set": "seed: !!set {a}\n",
    "a text by its tag": "seed: !!str 5\n",
    "a tag of its own": "seed: !mine 5\n",
    "nested": "a: " + "[" * 20000,
    "nested, whole": "a: " + "[" * 900 + "]" * 900,
    "digits": "seed: " + "9" * 5000 + "\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a tab": "seed:\n\t- 1\n",
    "large": "seed: 1\n#" + "x" * MOST_BYTES,
    "zero bytes": "\x00" * 100,
    "no unicode": b"seed: \xff\xfe\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_config_is_refused(name: str, run: Path, tmp_path: Path) -> None:
    content = FILES[name]
    if isinstance(content, str):
        content = content.replace("CANARY", str(tmp_path / "canary")).encode()
    (run / ".hydra/config.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_config(run)
    assert str(error.value).startswith(f"resume={run}: .hydra/config.yaml: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert not (tmp_path / "canary").exists()


def test_the_tag_would_run(tmp_path: Path) -> None:
    """Negative control: a reader that is not safe makes the canary."""
    text = str(FILES["an object"]).replace("CANARY", str(tmp_path / "canary"))
    yaml.unsafe_load(text)
    assert (tmp_path / "canary").is_dir()


def test_a_config_that_was_cut_is_refused_or_shorter(run: Path) -> None:
    """Cut between two lines it is a config still: `check_whole` knows by the checkpoint."""
    whole = (run / ".hydra/config.yaml").read_bytes()
    everything = read_config(run)
    for length in range(1, len(whole) - 1, 397):
        (run / ".hydra/config.yaml").write_bytes(whole[:length])
        with suppress(UserError):
            assert read_config(run) != everything


def test_what_we_write_is_read_back(run: Path) -> None:
    assert read_config(run) == plain(TODAY)
    texts = ["1e3", "1e-3", "5", "true", "null", "~", "2020-01-01", "1:30", "a: b", "- a", "#x"]
    texts += ["", " ", "é\u202f€", "line\nline", "0x1F", "1_000", "yes", "=", "<<", ".nan", "!a"]
    numbers = [1e-5, 1e22, 3e-3, 0.1, -1.5, 10**30, True, None, 1e-300]
    config = {"data": {"texts": texts, "numbers": numbers, "empty": {}, "none": []}}
    save_config(run, config, [])
    assert read_config(run) == config
    assert OmegaConf.load(run / ".hydra/config.yaml") == config
