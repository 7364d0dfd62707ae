"""Positions dropped within a run: the model afterwards, its checkpoints, and exact resuming."""

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cli.errors import UserError
from cli.trained import load_trained
from extras.drope import DropPositions, drop_positions, without_positions
from model import Transformer, TransformerConfig
from runs import Killed, assert_same, checkpoint, fit
from training import Run
from training.callbacks.checkpoints import BestAndLast

CPU = torch.device("cpu")
SMALL = {"model": {"n_layers": 2, "d_model": 32, "n_heads": 2, "random_positions": 64}}
SMALL |= {"scaling": {"method": "linear", "factor": 2.0}, "data": {"seq_len": 16}}
DROP = "drop_positions_at=4"


# --- the network ----------------------------------------------------------------------------


def test_a_model_that_dropped_them_is_one_without() -> None:
    config = SMALL | {"position": "rope"}
    tokens = torch.arange(32).reshape(2, 16)
    rope = Transformer(TransformerConfig.from_config(config, 256)).eval()
    nope = Transformer(TransformerConfig.from_config(without_positions(config), 256)).eval()
    nope.load_state_dict(rope.state_dict())
    assert not torch.equal(rope(tokens), nope(tokens))
    drop_positions(rope)
    assert rope.config == nope.config
    assert torch.equal(rope(tokens), nope(tokens))
    assert torch.equal(rope.train()(tokens), nope.train()(tokens))


def test_a_compiled_model_drops_them_too() -> None:
    config = {"model": SMALL["model"] | {"n_layers": 1, "random_positions": None}}
    tokens = torch.arange(32).reshape(2, 16)
    net = Transformer(TransformerConfig.from_config(config, 256)).eval()
    compiled = copy.deepcopy(net)
    compiled.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(tokens), net(tokens))
    with_positions = net(tokens)
    drop_positions(net)
    drop_positions(compiled)
    torch.testing.assert_close(compiled(tokens), net(tokens))
    assert not torch.allclose(net(tokens), with_positions, atol=1e-4)


# --- a run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(home: Path) -> Run:
    return fit(home, "whole", DROP)


def test_checkpoints_are_of_a_model_without_positions(whole: Run) -> None:
    trained = load_trained(str(whole.directory), CPU)
    assert trained.config["position"] == trained.model.config.position == "nope"
    network = whole.best_network()
    assert network.config.position == "nope"
    assert checkpoint(whole.directory)["ropewalk"]["config"]["drop_positions_at"] == 4


def test_the_best_is_one_of_those_after_the_drop(whole: Run) -> None:
    lines = [json.loads(line) for line in (whole.directory / "metrics.jsonl").open()]
    losses = {line["step"]: line["val/loss"] for line in lines if "val/loss" in line}
    assert list(losses) == [2, 4, 6, 8, 10]
    after = {step: loss for step, loss in losses.items() if step > 4}
    assert whole.best.best_step == min(after, key=after.get)
    assert whole.best.best_loss == pytest.approx(min(after.values()))
    assert checkpoint(whole.directory, "best")["global_step"] == whole.best.best_step


@pytest.mark.parametrize(
    ("step", "position", "best"), [(3, "rope", 0), (4, "nope", math.inf), (6, "nope", 0)]
)
def test_the_best_before_the_drop_is_forgotten_and_no_other(step, position, best) -> None:
    """However low its loss, a model with positions is not what such a run is for."""
    kept = BestAndLast(Path())
    kept.best_loss = 0
    config = SMALL | {"position": "rope"}
    net = Transformer(TransformerConfig.from_config(config, 256))
    module = SimpleNamespace(net=net, identity={"config": config})
    trainer = SimpleNamespace(global_step=step, callbacks=[kept])
    DropPositions(4).on_train_batch_start(trainer, module)
    assert kept.best_loss == best
    assert net.config.position == module.identity["config"]["position"] == position


def test_steps_before_the_drop_are_those_of_a_run_that_keeps_them(home: Path, whole: Run) -> None:
    kept = fit(home, "kept", "optimizer.lr=0.002")
    dropped = fit(home, "dropped", DROP, "optimizer.lr=0.002")
    one, other = (
        [json.loads(line) for line in (run.directory / "metrics.jsonl").open()]
        for run in (kept, dropped)
    )
    losses = [
        [line["train/loss"] for line in lines if "train/loss" in line] for lines in (one, other)
    ]
    assert losses[0][:4] == losses[1][:4]
    assert all(a != b for a, b in zip(losses[0][4:], losses[1][4:], strict=True))
    assert checkpoint(kept.directory)["ropewalk"]["config"]["position"] == "rope"


@pytest.mark.parametrize(
    "stop", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_run_resumed_before_at_and_after_the_drop_is_the_same(
    home: Path, whole: Run, stop: int
) -> None:
    name = f"cut-{stop}"
    with pytest.raises(Killed):
        fit(home, name, DROP, stop=stop)
    assert checkpoint(home / name)["global_step"] == stop
    position = checkpoint(home / name)["ropewalk"]["config"]["position"]
    assert position == ("rope" if stop <= 4 else "nope")
    resumed = fit(home, name, f"resume={home / name}")
    for kind in ("last", "best"):
        cut, uncut = checkpoint(home / name, kind), checkpoint(whole.directory, kind)
        assert cut["ropewalk"]["config"]["position"] == "nope"
        assert_same(cut, uncut)
    assert resumed.best.state_dict() == whole.best.state_dict()


def test_a_finished_run_that_is_resumed_still_has_none(home: Path, whole: Run) -> None:
    """Nothing is trained there, so nothing is dropped: the checkpoint says what it is."""
    again = fit(home, "whole", f"resume={whole.directory}")
    tokens = torch.arange(16)[None]
    networks = [run.best_network().eval() for run in (whole, again)]
    assert again.prepared.net.config.position == "rope"
    assert networks[1].config.position == "nope"
    assert torch.equal(networks[0](tokens), networks[1](tokens))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["drop_positions_at=10"], "drop_positions_at=10: must be below trainer.max_steps=10"),
        (["drop_positions_at=0"], "drop_positions_at=0: must be null or an integer of at least 1"),
        (["drop_positions_at=x"], "drop_positions_at=x: must be null or an integer"),
        (["position=alibi"], "drop_positions_at=4: has no effect with position=alibi"),
        (["evaluation.methods=[yarn]"], "position=nope has no rotation"),
    ],
)
def test_what_cannot_be_dropped_is_refused(home: Path, options: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        fit(home, "refused", DROP, *options)
    assert said in str(error.value) and not (home / "refused").exists()


def test_the_step_cannot_change_half_way(home: Path, whole: Run) -> None:
    with pytest.raises(UserError, match="drop_positions_at=6: the run began with 4"):
        fit(home, "x", f"resume={whole.directory}", "trainer.max_steps=12", "drop_positions_at=6")
