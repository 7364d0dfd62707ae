"""`init_from` goes on with the model that the weights are of, but for what is typed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

import checkpoints
from cli.errors import UserError
from cli.overrides import Overrides
from cli.plan import plan_run
from commands import ROOT, some, write_text
from common.lock import release_all
from model import Transformer, TransformerConfig
from runs import SETTINGS, Killed, fit

SIZE = ("model.n_layers=1", "model.d_model=32", "model.n_heads=2", "data.seq_len=32")
# What of a model has no shape, so that weights of another are loaded without a word.
SHAPELESS = (
    ("rope.theta=50.0",),
    ("rope.interleaved=false",),
    ("rope.fraction=0.5",),
    ("scaling=linear", "scaling.factor=4"),
    ("scaling=llama3", "scaling.factor=2", "scaling.train_length=32"),
    ("model.window=5",),
    ("model.window=5", "model.n_layers=2", "model.pattern=[window,full-nope]"),
    ("position=nope",),
    ("position=alibi",),
    ("position=sinusoidal",),
    ("model.ssmax=true",),
    ("model.qk_norm=true",),
    ("model.random_positions=64",),
    ("model.dropout=0.25",),
    ("model.n_kv_heads=2", "model.mlp=relu2", "model.tied_head=false"),
)


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", list(overrides))


def plan(*overrides: str) -> dict[str, Any]:
    """The config of a run under these overrides."""
    return plan_run(composed(*overrides), Overrides(list(overrides))).config


def model_config(config: dict[str, Any]) -> TransformerConfig:
    return TransformerConfig.from_config(config, vocab_size=256)


def save(path: Path, config: dict[str, Any]) -> str:
    """A checkpoint with this config, and how it is named."""
    checkpoints.write(path, ropewalk__config=config)
    return f"init_from={path}"


@pytest.mark.parametrize("model", some(SHAPELESS, default=3), ids=" ".join)
def test_what_was_not_typed_comes_from_the_checkpoint(
    model: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = plan(*SIZE, *model)
    here = plan("data.seq_len=32", "rope=pytorch", save(tmp_path / "x.ckpt", there))
    assert model_config(here) == replace(model_config(there), backend="pytorch")
    assert capsys.readouterr().out == ""


def test_what_was_typed_and_differs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = plan(*SIZE, "rope.theta=50.0", "rope.interleaved=false", "model.dropout=0.5")
    source = save(tmp_path / "x.ckpt", there)
    here = plan(*SIZE, source, "rope.theta=10000", "rope.backend=pytorch", "model.dropout=0.5")
    assert model_config(here).theta == 10000 and not model_config(here).interleaved
    assert here["rope"]["backend"] == "pytorch"  # which computes the same
    assert capsys.readouterr().out == f"{source}: rope.theta=10000 here, 50.0 there\n"
    plan(source, "experiment=books")  # its groups count as typed
    lines = capsys.readouterr().out.splitlines()
    assert f"{source}: model.d_model=384 here, 32 there" in lines
    assert f"{source}: model.n_layers=6 here, 1 there" in lines
    assert not any("rope." in line for line in lines)


def test_a_scaling_typed_stretches_what_the_run_was_trained_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "x.ckpt", plan(*SIZE))
    here = plan(source, "scaling=yarn", "scaling.factor=4", "data.seq_len=128")
    assert here["scaling"]["train_length"] == 32
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{source}: scaling.method=yarn here, none there",
        f"{source}: scaling.factor=4 here, null there",
        f"{source}: scaling.train_length=32, as there",
    ]
    again = save(tmp_path / "y.ckpt", here)
    further = plan(again, "scaling=linear", "scaling.factor=8", "data.seq_len=256")
    assert further["scaling"]["train_length"] == 32 and further["scaling"]["options"] == {}
    assert plan(again, "scaling.factor=8")["scaling"]["method"] == "yarn"
    typed = plan(source, "scaling=yarn", "scaling.factor=4", "scaling.train_length=64")
    assert typed["scaling"]["train_length"] == 64


def test_a_position_typed_takes_nothing_that_bends_another(tmp_path: Path) -> None:
    there = plan(*SIZE, "scaling=linear", "scaling.factor=4", "model.random_positions=64")
    here = plan("data.seq_len=32", save(tmp_path / "x.ckpt", there), "position=nope")
    assert here["scaling"]["method"] == "none" and here["model"]["random_positions"] is None


def test_a_run_whose_positions_were_dropped_goes_on_without(tmp_path: Path) -> None:
    from extras.drope import without_positions

    there = plan(*SIZE, "trainer.max_steps=20", "drop_positions_at=10", "rope.theta=50.0")
    here = plan("data.seq_len=32", save(tmp_path / "x.ckpt", without_positions(there)))
    assert here["position"] == "nope" and here["drop_positions_at"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope": {"theta": "${oc.env:HOME}"}}, "rope.theta: holds ${…}"),
        ({"rope": {"theta": -1}}, "rope.theta=-1: must be"),
        ({"rope": {"_target_": "os.mkdir"}}, "rope._target_: there is no such key"),
        ({"rope": {"a.b": 1}}, "rope: has the key 'a.b'"),
        ({"rope": {"theta": torch.zeros(2)}}, "ropewalk.config: must be a dict of plain data"),
        ({"model": []}, "it has no group model"),
        ({"model": {"far_heads": 2}}, "model.far_heads=2: mixed layers were removed"),
        ({"scaling": {"options": {"a": [{"_target_": "os.mkdir"}]}}}, "scaling.options.a="),
        ({"position": {"_target_": "os.mkdir"}}, "position="),
    ],
)
def test_the_config_in_a_checkpoint_is_data(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = plan(*SIZE)
    for key, value in change.items():
        merged = isinstance(value, dict) and key != "position"
        config[key] = config[key] | value if merged else value
    with pytest.raises(UserError) as error:
        plan(save(tmp_path / "x.ckpt", config))
    assert said in str(error.value)


def test_typed_values_are_checked_before_the_checkpoint_is_read() -> None:
    with pytest.raises(UserError, match=r"^rope.theta=-1: must be"):
        plan("init_from=nowhere", "rope.theta=-1")
    with pytest.raises(UserError, match="init_from=nowhere: no such file"):
        plan("init_from=nowhere")


def test_a_run_continued_for_nothing_has_the_same_loss(home: Path) -> None:
    """With the rotation of the default config the loss is another: what was wrong before."""
    options = ("model.dropout=0", "rope.theta=50", "rope.interleaved=false")
    before = fit(home, "before", *options, "trainer.max_steps=30", "optimizer.lr=0.02")
    still = ("optimizer.lr=1e-12", "trainer.max_steps=1", "trainer.val_check_interval=1")
    after = fit(home, "after", *still, f"init_from={home / 'before'}", "model.dropout=0")
    assert after.best.best_loss == pytest.approx(before.best.best_loss, rel=1e-6)
    other = fit(
        home, "other", *still, f"init_from={home / 'before'}", "rope.theta=10000",
        "rope.interleaved=true", "model.dropout=0",
    )  # fmt: skip
    assert other.best.best_loss > before.best.best_loss + 0.01  # negative control
    assert isinstance(after.best_network(), Transformer)


def test_auto_goes_on_without_what_the_run_began_with(tmp_path: Path) -> None:
    write_text(tmp_path / "text.txt")
    fit(tmp_path, "w", "trainer.max_steps=2")
    asked = (f"init_from={tmp_path / 'w'}", "trainer.max_steps=4")
    with pytest.raises(Killed):
        fit(tmp_path, "i", *asked, stop=2)
    release_all()
    (tmp_path / "w").rename(tmp_path / "away")
    again = [*SETTINGS, f"data.path={tmp_path / 'text.txt'}", *asked, "resume=auto"]
    again.append(f"run_dir={tmp_path / 'i'}")
    going_on = plan_run(composed(*again), Overrides(again))
    assert going_on.run == tmp_path / "i" and going_on.checkpoint
    release_all()
    by_path = [f"resume={tmp_path / 'i'}"]
    assert plan_run(composed(*by_path), Overrides(by_path)).checkpoint == going_on.checkpoint
    release_all()
    again[-1] = f"run_dir={tmp_path / 'new'}"
    with pytest.raises(UserError, match="no such file"):
        plan_run(composed(*again), Overrides(again))
