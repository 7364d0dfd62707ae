"""Whether a checkpoint fits the run that is to go on from it: asked before anything is written."""

from typing import Any

import lightning as L

from training.checkpoint_contents import difference
from training.module import LanguageModule

OURS = ("extras", "training")  # packages whose callbacks keep their states in one form


def check_resumable(
    checkpoint: dict[str, Any], trainer: L.Trainer, module: LanguageModule, shown: str
) -> None:
    """ValueError, naming the key, where Lightning could not restore `checkpoint` into this run.

    `shown`: the config key and the path of the checkpoint.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks = [callback for callback in callbacks if _is_ours(callback)]
    states = {callback.state_key: callback.state_dict() for callback in callbacks}
    there = checkpoint["callbacks"]
    own = {
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        # One that is new to the run begins afresh.
        "callbacks": {key: state for key, state in states.items() if state and key in there},
        **_of_optimizer(checkpoint, module),
    }
    if wrong := difference(checkpoint, own, "its"):
        raise ValueError(
            f"{shown}: is not of this run: {wrong.removeprefix('its.')}; give another checkpoint"
        )


def _is_ours(callback: L.Callback) -> bool:
    """Whether it is of this project: the states of others may grow and change as they like."""
    return type(callback).__module__.partition(".")[0] in OURS


def _of_optimizer(checkpoint: dict[str, Any], module: LanguageModule) -> dict[str, Any]:
    """What the optimizer and the schedule would save in this run, as far as they must agree."""
    built: Any = module.configure_optimizers()
    optimizer, schedule = built["optimizer"], built["lr_scheduler"]["scheduler"]
    saved = checkpoint["optimizer_states"][0]
    moments = saved.get("state") if isinstance(saved, dict) else None
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    state = {
        index: {"exp_avg": parameter.detach(), "exp_avg_sq": parameter.detach()}
        for index, parameter in enumerate(parameters)
        if isinstance(moments, dict) and index in moments  # those that have had a gradient
    }
    groups = [
        # Flags differ between devices and versions of torch, which fill them in.
        {key: value for key, value in group.items() if isinstance(value, (float, tuple, list))}
        for group in optimizer.state_dict()["param_groups"]
    ]
    return {
        "optimizer_states": [{"state": state, "param_groups": groups}],
        "lr_schedulers": [schedule.state_dict()],
    }
