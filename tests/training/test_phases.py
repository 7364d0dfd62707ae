"""Phases of training: off while their key is null, and known by no name but that in configs."""

from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir

from cli.compose import plain
from commands import ROOT
from training.phases import Phase, build_phases, describe, final_config, phase_problems

PHASES = ["DropPositions", "JoinPassages"]  # in the order in which a run calls them


def composed(*overrides: str) -> dict:
    """The plain config of train.py."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return plain(compose("train", list(overrides)))


def test_those_of_a_run_without_any_do_nothing() -> None:
    config = composed()
    phases = build_phases(config)
    assert [type(phase).__name__ for phase in phases] == PHASES
    assert final_config(config) == config and describe(config) == []
    assert phase_problems(config, {}) == []
    trainer, module = SimpleNamespace(global_step=0, callbacks=[]), SimpleNamespace(net=None)
    for phase in phases:
        phase.on_train_start(trainer, module)
        phase.on_train_batch_start(trainer, module, None, 0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["drop_positions_at=400"], [("model", "dropped at step 400")]),
        (
            ["crossbatch_from=1200", "model.crossbatch=4"],
            [("train", "4 passages read as one from step 1,200 on")],
        ),
    ],
)
def test_a_run_announces_them(overrides: list[str], said: list[tuple[str, str]]) -> None:
    assert describe(composed(*overrides)) == said


def test_the_model_that_a_run_ends_with_is_one_without_positions() -> None:
    final = final_config(composed("drop_positions_at=400", "model.random_positions=512"))
    assert final["position"] == "nope" and final["model"]["random_positions"] is None


def test_any_callback_that_is_a_phase_will_do() -> None:
    """A new one needs its class and its place in configs/phases alone."""
    config = composed() | {"phases": {"mine": {"_target_": "training.phases.Phase"}}}
    assert [type(phase) for phase in build_phases(config)] == [Phase]
    assert final_config(config) == config and phase_problems(config, {}) == []
