"""The rule of every config key that no room checks itself, in one table.

The rooms check their own: `model.TransformerConfig` the keys under `model`, `rope`, `scaling` and
`position`, `data.TextDataModule` those under `data`, `evaluation.check_settings` those under
`evaluation`, the phases of training their own. All problems come out at once.
"""

from collections.abc import Mapping
from typing import Any

from cli.errors import UserError
from common.rules import Rule, above, broken, integer, number, optional

_TEXT = Rule("text", lambda value: isinstance(value, str) and bool(value.strip()))


def _at_least(low: int) -> Rule:
    return integer(low, 2**40)._replace(text=f"an integer of at least {low}")


def _one_of(*options: str) -> Rule:
    return Rule(f"one of {', '.join(options)}", lambda value: value in options)


_LENGTH = _at_least(1)
_NAME = Rule(
    "the name of a directory (letters, digits, . _ -)",
    lambda v: isinstance(v, str) and bool(v.strip(".")) and v.replace("/", "") == v.strip(),
)
_PRECISION = _one_of("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")

_ONE = Rule("1: a run takes one device", lambda value: value == 1 and value is not True)
_COMPILE = Rule(
    "true, false, reduce-overhead or max-autotune",
    lambda value: value is True or value is False or value in ("reduce-overhead", "max-autotune"),
)

# Key: its rule, and a value that works.
RULES = {
    "seed": (integer(0, 2**32 - 1), "0"),
    "name": (optional(_NAME), "mine"),
    "run_dir": (optional(_TEXT), "runs/mine"),
    "resume": (optional(_TEXT), "auto"),
    "init_from": (optional(_TEXT), "runs/mine"),
    "compile": (_COMPILE, "true"),
    "optimizer.lr": (above(0), "0.001"),
    "optimizer.final_lr_fraction": (number(0, 1), "0.1"),
    "optimizer.warmup_steps": (_at_least(0), "30"),
    "optimizer.weight_decay": (number(0, 1e6), "0.1"),
    "optimizer.beta1": (number(0, 1 - 1e-12), "0.9"),
    "optimizer.beta2": (number(0, 1 - 1e-12), "0.95"),
    "trainer.max_steps": (_LENGTH, "450"),
    "trainer.val_check_interval": (_LENGTH, "150"),
    "trainer.log_every_n_steps": (_LENGTH, "10"),
    "trainer.accumulate_grad_batches": (_LENGTH, "1"),
    "trainer.gradient_clip_val": (optional(above(0)), "1.0"),
    "trainer.precision": (_PRECISION, "auto"),
    "trainer.accelerator": (_one_of("auto", "cpu", "gpu", "cuda", "mps"), "auto"),
    # Several processes would each claim the run's directory: not supported yet.
    "trainer.devices": (_ONE, "1"),
    "trainer.num_nodes": (_ONE, "1"),
    "trainer.strategy": (_one_of("auto"), "auto"),
    "checkpoint": (_TEXT, "runs/NAME/TIMESTAMP"),
    "output_dir": (optional(_TEXT), "my-evaluation"),
    "split": (_one_of("validation", "report"), "validation"),
    "accelerator": (_one_of("auto", "cpu", "gpu"), "auto"),
    "prompt": (_TEXT._replace(holds=lambda value: isinstance(value, str) and value != ""), "def"),
    "max_new_tokens": (integer(1, 1_000_000), "200"),
    "temperature": (number(0, 1e6), "0.8"),
    "top_k": (optional(_LENGTH), "40"),
    "rounds": (_LENGTH, "50"),
    "host_calls": (_LENGTH, "10000"),
    "step_batch": (_LENGTH, "64"),
    "step_repeats": (_LENGTH, "10"),
    "step_rounds": (_LENGTH, "5"),
}


def check(config: Mapping[str, Any], more: list[str] | None = None) -> None:
    """Raise a UserError with a line for each key of `config` (plain, nested) that breaks its rule.

    `more` are the lines that a room has found.
    """
    lines = []
    for key, (rule, example) in RULES.items():
        found = _look_up(config, key)
        if found:
            lines += broken(key, found[0], rule, example)
    if lines := [*lines, *(more or [])]:
        raise UserError("\n       ".join(lines))


def _look_up(config: Mapping[str, Any], key: str) -> tuple[Any] | None:
    """The value at a dotted key, in a tuple; None where the config has no such key."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return (node,)
