"""What is wrong with a config of train.py: values first, which need no torch, then the rest."""

from collections.abc import Callable
from typing import Any

import extras
from cli.errors import refuse, user_errors
from cli.keys import TRAIN, key_problems
from cli.overrides import Overrides
from cli.parts import part_problems
from data.settings import data_problems, task_problems
from data.tokenizer_choice import expected_size
from evaluation.settings import setting_problems, unread
from methods.method import check_possible
from model.config import RULES as MODEL
from model.config import TransformerConfig
from training.trainer_rules import trainer_problems

_ROTATION = ("rope.theta", "rope.interleaved", "rope.fraction", "rope.fused_projection")


def check_job(config: dict[str, Any], overrides: Overrides) -> None:
    """UserError for what of a job is wrong whatever it goes on with, and in a new run, all."""
    resume, source = config["resume"], config["init_from"]
    if source is None and resume in (None, "auto"):
        return check_values(config, overrides)
    check_keys(config | {"init_from": source if resume is None else None})


def check_keys(config: dict[str, Any]) -> None:
    """UserError for what is wrong of single keys, where the model that they make is not known."""
    refuse(key_problems(config, TRAIN | extras.RULES | MODEL))


def check_values(config: dict[str, Any], overrides: Overrides) -> None:
    """UserError with every wrong value, and every key that was typed and would be ignored."""
    model = _problems(lambda: model_config(config))
    data = data_problems(config["data"]) + task_problems(config["data"])
    length = None if data else config["data"]["seq_len"]  # lengths follow from it
    asked = config["evaluation"]
    evaluation = setting_problems(asked, length, "evaluation.")
    evaluation = evaluation or unread(asked, overrides.typed, "evaluation.")
    ignored = [] if model else _ignored(config, overrides)
    asked_of_data = [] if data or model else _batches(config, overrides)
    parts = [*trainer_problems(config["trainer"]), *part_problems(config), *asked_of_data]
    keys = key_problems(config, TRAIN | extras.RULES)
    refuse([*keys, *model, *data, *evaluation, *parts, *ignored])


def check_run(config: dict[str, Any], overrides: Overrides) -> None:
    """UserError for what only the rooms that import torch know: values are right by now."""
    from training.phases import phase_problems

    phases = phase_problems(config, overrides.typed)
    methods = [] if phases else _impossible_methods(config, overrides)
    refuse([*phases, *methods, *_too_large(config)])


def _too_large(config: dict[str, Any]) -> list[str]:
    """What the device that was asked for has no memory for."""
    from training import pick_device
    from training.memory import memory_problems

    with user_errors():
        device = pick_device(config["trainer"]["accelerator"])
    return memory_problems(config, model_config(config), device)


def model_config(config: dict[str, Any]) -> TransformerConfig:
    """The model's own; the real vocabulary size comes with the text."""
    return TransformerConfig.from_config(config, expected_size(config["data"]))


def _impossible_methods(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """Methods that were typed and that the model, as it is measured, refuses."""
    from training.phases import final_config

    if not overrides.of("evaluation.methods"):
        return []
    measured = final_config(config)
    methods, length = config["evaluation"]["methods"], config["data"]["seq_len"]
    lines = _problems(lambda: check_possible(methods, model_config(measured), length))
    return [f"evaluation.{line}" for line in lines]


def _problems(make: Callable[[], Any]) -> list[str]:
    """The lines of the ValueError that is raised, if one is."""
    try:
        make()
    except ValueError as error:
        return str(error).splitlines()
    return []


def _ignored(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """Keys that the user set and that nothing would read."""
    lines = _schedule_ignored(config, overrides)
    if config["position"] == "rope":
        return lines + _never_fused(config, overrides)
    return lines + [
        f"{override}: has no effect with position={config['position']}; leave one of them out"
        for override in overrides.of(*_ROTATION)
    ]


def _schedule_ignored(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """A last learning rate that a run ends too early for."""
    typed = overrides.of("optimizer.final_lr_fraction")
    warmup, steps = config["optimizer"]["warmup_steps"], config["trainer"]["max_steps"]
    if not typed or warmup < steps:
        return []
    return [
        f"{typed[-1]}: has no effect, since optimizer.warmup_steps={warmup} last as long as "
        f"trainer.max_steps={steps}; try optimizer.warmup_steps={steps // 10}"
    ]


def _batches(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """What of the batches does not go with the model, or with the number of steps."""
    data, steps = config["data"], config["trainer"]["max_steps"]
    lines = [
        f"data.document_mask=true: cannot go with model.{key}={value}, which reads windows as a "
        f"whole; leave one of them out"
        for key in ("crossbatch", "random_positions")
        if data["document_mask"] and (value := config["model"][key]) is not None
    ]
    grows, growing = data["warmup_seq_len"] is not None, data["warmup_steps"]
    if not grows:
        lines += [
            f"{override}: has no effect without data.warmup_seq_len; leave it out"
            for override in overrides.of("data.warmup_steps")
        ]
    elif isinstance(steps, int) and growing >= steps:
        lines.append(
            f"data.warmup_steps={growing}: must be below trainer.max_steps={steps}, so that some "
            f"windows are data.seq_len long; try data.warmup_steps={max(1, steps // 4)}"
        )
    return lines


def _never_fused(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """`rope.fused_projection=true` for a model that no GPU can do that with."""
    typed = overrides.of("rope.fused_projection")
    if not typed or not config["rope"]["fused_projection"]:
        return []
    model = model_config(config)
    fits = model.head_width == 64 and model.rotary_dim == 64 and model.d_model % 64 == 0
    even = model.n_heads % 2 == 0 and model.kv_heads % 2 == 0
    plain = not (model.qk_norm or model.qkv_bias)
    if fits and even and plain and model.backend != "pytorch":
        return []
    return [
        f"{typed[-1]}: has no effect on this model; it needs heads of 64 that are rotated as a "
        "whole, even numbers of them, model.qk_norm=false, model.qkv_bias=false and not "
        "rope=pytorch"
    ]
