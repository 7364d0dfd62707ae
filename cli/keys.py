"""The rule of every config key that no room rules itself, by command.

The rooms rule their own: `model.config` and `model.rules`, `data.settings`, `evaluation.settings`,
`training.optimizers`, `benchmarks.registry`. Nothing here needs torch.
"""

from typing import Any

from cli.compose import flatten
from cli.paths import path_problems
from common.figures import RULE as FIGURES
from common.rules import (
    BOOLEAN,
    Rule,
    at_least,
    integer,
    list_of,
    of,
    one_of,
    optional,
    problems,
    text,
)
from hf.config_out import WRITERS
from model.rules import GENERATION
from training.optimizers import RULES as OPTIMIZER


def _is_name(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable() or len(value.encode()) > 100:
        return False
    return bool(value.strip(".")) and value.replace("/", "") == value.strip()


_NAME = of("the name of a directory (letters, digits, . _ -), at most 100 bytes", _is_name, "mine")
_COMPILE = of(
    "true, false, reduce-overhead or max-autotune",
    lambda v: v is True or v is False or v in ("reduce-overhead", "max-autotune"),
    "true",
)
_CUDA_GRAPH = of("auto, true or false", lambda v: v is True or v is False or v == "auto", "auto")
_SEED = integer(0, 2**32 - 1, 0)
_CHECKPOINT = text("runs/NAME/TIMESTAMP")

TRAIN = {
    "seed": _SEED,
    "name": optional(_NAME),
    "run_dir": optional(text("runs/mine")),
    "resume": optional(text("auto")),
    "init_from": optional(text("runs/mine")),
    "compile": _COMPILE,
    "figures": FIGURES,
    **{f"optimizer.{key}": rule for key, rule in OPTIMIZER.items()},
    "checkpoints.every_n_steps": optional(at_least(1, 100)),
    "checkpoints.keep_last": at_least(1, 3),
}
EVALUATE = {
    "checkpoint": _CHECKPOINT,
    "as": one_of(("mean", "columns"), "columns"),
    "output_dir": optional(text("my-evaluation")),
    "split": optional(one_of(("validation", "report", "all"), "validation")),
    "accelerator": one_of(("auto", "cpu", "gpu"), "auto"),
    "figures": FIGURES,
}
GENERATE = {
    "checkpoint": _CHECKPOINT,
    "prompt": of("text", lambda v: isinstance(v, str) and v != "", "def"),
    "prompt_file": optional(text("prompt.txt")),
    "prompts": optional(text("prompts.txt")),
    "output": optional(text("continued.jsonl")),
    "stop": optional(list_of(of("text", lambda v: isinstance(v, str) and v != "", "END"))),
    "stop_at_separator": BOOLEAN,
    "samples": integer(1, 1000, 3),
    "batch_size": integer(1, 65_536, 16),
    "cuda_graph": _CUDA_GRAPH,
    **GENERATION,
    "max_new_tokens": integer(1, 1_000_000, 200),  # room for them is made at once
    "seed": _SEED,
    "accelerator": EVALUATE["accelerator"],
}
# What of these is told to `model.generate_batch` as it stands
SAMPLING = tuple(key for key in GENERATION if key != "seed")
EXPORT = {
    "checkpoint": _CHECKPOINT,
    "output_dir": text("my-model"),
    "family": optional(one_of(WRITERS, "llama")),
    "dtype": one_of(("float32", "bfloat16", "float16"), "float32"),
}
COMPARE = {
    "runs": list_of(text("runs/NAME/TIMESTAMP")),
    "output_dir": optional(text("my-comparison")),
    "figures": FIGURES,
}
BENCHMARK = {"seed": _SEED, "output_dir": optional(text("my-benchmark")), "figures": FIGURES}


def key_problems(config: dict[str, Any], rules: dict[str, Rule]) -> list[str]:
    """A line for each key of a plain, nested config that breaks its rule or names no file."""
    return problems(flatten(config), rules) + path_problems(config)
