"""From the composed config to the one that will run: resumed where asked, checked as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

import extras  # noqa: F401 (registers what a config may ask for)
from cli.command import plain
from cli.errors import user_errors
from cli.resume import check_meaningful, check_unfinished, find_run, resumed_config
from cli.rules import check
from cli.rundir import CLAIM, RESULTS, check_free
from data import TextDataModule
from evaluation import check_possible, check_settings
from kernels import resolve_backend
from model import TransformerConfig
from training import pick_device, trainer_problems
from training.callbacks.checkpoints import read_checkpoint
from training.phases import final_config, phase_problems


class Plan(NamedTuple):
    """What will run. `run` is None for a new one; `checkpoint` where an old one goes on from."""

    config: dict[str, Any]
    run: Path | None
    checkpoint: Path | None


def plan_run(composed: DictConfig, overrides: list[str]) -> Plan:
    """The config of today's run, complete and right. UserError with every problem otherwise."""
    config = plain(composed)
    resume, run_dir = config["resume"], config["run_dir"]
    if not isinstance(resume, str) or resume == "auto":
        _check(config, overrides)  # one named by its path answers for its own config
        config["name"] = config["name"] or _default_name(config)
    if resume is None:
        check_free(run_dir)
        return Plan(config, None, None)
    check_meaningful(resume, overrides)
    if found := find_run(resume, run_dir, config["name"]):
        return _resumed(composed, overrides, *found)
    if run_dir is not None and (Path(run_dir) / CLAIM).exists():
        if (Path(run_dir) / RESULTS).exists():
            check_free(run_dir)
        return Plan(config, Path(run_dir), None)  # it ended before its first checkpoint
    print(f"resume=auto: no unfinished run of {run_dir or config['name']}; a new one begins")
    return Plan(config, None, None)


def _resumed(composed: DictConfig, overrides: list[str], run: Path, checkpoint: Path) -> Plan:
    config = resumed_config(composed, overrides, run)
    _check(config, overrides)
    with user_errors():
        step = read_checkpoint(checkpoint, "resume")["global_step"]
    check_unfinished(run, step, config["trainer"]["max_steps"])
    return Plan(config, run, checkpoint)


def _check(config: dict[str, Any], overrides: list[str]) -> None:
    # The real vocabulary size comes with the text.
    model = _problems(lambda: TransformerConfig.from_config(config, vocab_size=256))
    data = _problems(lambda: TextDataModule(**config["data"]))
    settings = config["evaluation"]
    measure = _problems(lambda: check_settings(config["data"]["seq_len"], **settings))
    if data:
        measure = []  # its lengths follow from data.seq_len
    phases = phase_problems(config, overrides)
    if not (model or measure or phases) and any(
        o.startswith("evaluation.methods=") for o in overrides
    ):
        measure = _problems(lambda: _check_methods(config))
    evaluation = [f"evaluation.{line}" for line in measure]
    trainer = trainer_problems(config["trainer"])
    ignored = [] if model else _ignored(config, overrides)
    check(config, [*model, *data, *evaluation, *trainer, *ignored, *phases])


def _check_methods(config: dict[str, Any]) -> None:
    net = TransformerConfig.from_config(final_config(config), vocab_size=256)
    check_possible(config["evaluation"]["methods"], net, config["data"]["seq_len"])


def _problems(make: Callable[[], Any]) -> list[str]:
    """What a room says of its own keys."""
    try:
        make()
    except ValueError as error:
        return str(error).splitlines()
    return []


def _ignored(config: dict[str, Any], overrides: list[str]) -> list[str]:
    """Keys that the user set and that nothing would read."""
    if config["position"] == "rope":
        return _never_fused(config, overrides)
    keys = ("rope.theta", "rope.interleaved", "rope.fraction", "rope.fused_projection")
    return [
        f"{override}: has no effect with position={config['position']}; leave one of them out"
        for override in overrides
        if override.startswith(keys)
    ]


def _never_fused(config: dict[str, Any], overrides: list[str]) -> list[str]:
    """`rope.fused_projection=true` for a model that no GPU can do that with."""
    typed = [o for o in overrides if o.startswith("rope.fused_projection")]
    if not typed or not config["rope"]["fused_projection"]:
        return []
    model = TransformerConfig.from_config(config, vocab_size=256)
    fits = model.head_width == 64 and model.rotary_dim == 64 and model.d_model % 64 == 0
    even = model.n_heads % 2 == 0 and model.kv_heads % 2 == 0
    if fits and even and not model.qk_norm and model.backend != "pytorch":
        return []
    return [
        f"{typed[-1]}: has no effect on this model; it needs heads of 64 that are rotated as a "
        "whole, even numbers of them, model.qk_norm=false and not rope=pytorch"
    ]


def _default_name(config: dict[str, Any]) -> str:
    with user_errors():
        device = pick_device(config["trainer"]["accelerator"])
        backend = resolve_backend(config["rope"]["backend"], device)
    position = config["position"]  # without a rotation no backend is at work
    return f"{config['data']['corpus']}-{backend if position == 'rope' else position}"
