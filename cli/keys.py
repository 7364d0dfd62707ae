"""The rule of every config key that no room rules itself, by command.

The rooms rule their own: `model.config` and `model.rules`, `data.settings`, `evaluation.settings`,
`training.optimizers`, `benchmarks.registry`. Nothing here needs torch.
"""

from typing import Any

from cli.compose import flatten
from common.rules import Rule, above, at_least, integer, of, one_of, optional, problems, text
from model.rules import GENERATION
from training.optimizers import RULES as OPTIMIZER

_NAME = of(
    "the name of a directory (letters, digits, . _ -)",
    lambda v: isinstance(v, str) and bool(v.strip(".")) and v.replace("/", "") == v.strip(),
    "mine",
)
_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
# Several processes would each claim the run's directory: not supported yet.
_ONE = of("1: a run takes one device", lambda v: v == 1 and v is not True, 1)
_COMPILE = of(
    "true, false, reduce-overhead or max-autotune",
    lambda v: v is True or v is False or v in ("reduce-overhead", "max-autotune"),
    "true",
)
_SEED = integer(0, 2**32 - 1, 0)
_CHECKPOINT = text("runs/NAME/TIMESTAMP")

TRAIN = {
    "seed": _SEED,
    "name": optional(_NAME),
    "run_dir": optional(text("runs/mine")),
    "resume": optional(text("auto")),
    "init_from": optional(text("runs/mine")),
    "compile": _COMPILE,
    **{f"optimizer.{key}": rule for key, rule in OPTIMIZER.items()},
    "checkpoints.every_n_steps": optional(at_least(1, 100)),
    "checkpoints.keep_last": at_least(1, 3),
    "trainer.max_steps": at_least(1, 450),
    "trainer.val_check_interval": at_least(1, 150),
    "trainer.log_every_n_steps": at_least(1, 10),
    "trainer.accumulate_grad_batches": at_least(1, 1),
    "trainer.gradient_clip_val": optional(above(0, 1.0)),
    "trainer.precision": one_of(_PRECISIONS, "auto"),
    "trainer.accelerator": one_of(("auto", "cpu", "gpu", "cuda", "mps"), "auto"),
    "trainer.devices": _ONE,
    "trainer.num_nodes": _ONE,
    "trainer.strategy": one_of(("auto",), "auto"),
}
EVALUATE = {
    "checkpoint": _CHECKPOINT,
    "output_dir": optional(text("my-evaluation")),
    "split": one_of(("validation", "report"), "validation"),
    "accelerator": one_of(("auto", "cpu", "gpu"), "auto"),
}
GENERATE = {
    "checkpoint": _CHECKPOINT,
    "prompt": of("text", lambda v: isinstance(v, str) and v != "", "def"),
    **GENERATION,
    "max_new_tokens": integer(1, 1_000_000, 200),  # room for them is made at once
    "seed": _SEED,
    "accelerator": EVALUATE["accelerator"],
}
BENCHMARK = {"seed": _SEED, "output_dir": optional(text("my-benchmark"))}


def key_problems(config: dict[str, Any], rules: dict[str, Rule]) -> list[str]:
    """A line for each key of a plain, nested config that breaks its rule."""
    return problems(flatten(config), rules)
