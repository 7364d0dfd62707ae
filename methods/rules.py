"""What the numbers after the @ of a position map must be, as in `rerope@128`; needs no torch."""

from collections.abc import Mapping

from common.rules import integer, problems

# The numbers of each map in their order, with an example of each.
NUMBERS: dict[str, dict[str, int]] = {
    "rerope": {"window": 128},
    "mean-rerope": {"window": 128, "longest": 255},
    "leaky-rerope": {"window": 128, "leak": 16},
    "self-extend": {"group": 8, "window": 64},
    "dual-chunk": {"chunk": 192, "local": 32},
    "window": {"window": 256},
    "sinks": {"sinks": 4, "window": 252},
}


def number_problems(name: str, numbers: Mapping[str, int]) -> list[str]:
    """A line for each broken rule on the numbers of the map `name`."""
    rules = {key: integer(1, 2**31, example) for key, example in NUMBERS[name].items()}
    if lines := problems(numbers, rules):
        return lines
    if name == "mean-rerope" and numbers["longest"] < (window := numbers["window"]):
        longest = numbers["longest"]
        return [f"{longest=}: must be at least {window=}; try longest={2 * window - 1}"]
    if name == "dual-chunk" and 2 * numbers["local"] >= (chunk := numbers["chunk"]):
        local = numbers["local"]
        return [f"{local=}: must be below half of {chunk=}; try local={max(1, chunk // 6)}"]
    return []
