"""What is wrong with a config of generate.py as a whole: known without torch."""

from pathlib import Path
from typing import Any

from cli.keys import GENERATE, key_problems
from cli.overrides import Overrides
from methods.method import parse_method


def generate_problems(config: dict[str, Any], overrides: Overrides) -> list[str]:
    """A line for each value that is wrong, or else for each that nothing would come of."""
    wrong = key_problems(config, GENERATE) + _method_problems(config["method"])
    return wrong or _without_effect(config, overrides) + _output_problems(config["output"])


def _method_problems(method: Any) -> list[str]:
    try:
        parse_method(method)
    except ValueError as error:
        return [str(error).replace(f"methods=[{method}]", f"method={method}", 1)]
    return []


def _output_problems(output: str | None) -> list[str]:
    """A line where the file is there already, or can be nowhere."""
    if output is None:
        return []
    path = Path(output)
    if path.exists():
        return [f"output={output}: is there already; take another name"]
    if not path.parent.is_dir():
        return [f"output={output}: there is no directory {path.parent}; make it first"]
    return []


def _without_effect(config: dict[str, Any], overrides: Overrides) -> list[str]:
    for key, others in (("prompts", ("prompt_file", "prompt")), ("prompt_file", ("prompt",))):
        if config[key] is not None and (typed := overrides.of(*others)):
            return [f"{typed[0]}: has no effect with {key}=; leave one out"]
    if config["temperature"] == 0:
        why, keys = "temperature=0", ("top_k", "top_p", "min_p", "seed", "samples")
    elif config["top_k"] == 1:
        why, keys = "top_k=1", ("temperature", "top_p", "min_p", "seed", "samples")
    else:
        return []
    return [
        f"{typed}: has no effect with {why}, which always takes the likeliest token; leave it out"
        for typed in overrides.of(*keys)
    ]
