"""What is done to a trained model's positions at evaluation time, so that it reads further.

Every method here changes the rotation's frequencies alone; their formulas stand in
`model/frequencies.py`. The factor is context / training length, anew at each length.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

METHODS: dict[str, str] = {
    "none": "the model exactly as trained",
    "linear": "every frequency divided by the factor: positions squeezed into the trained range",
    "ntk": "a larger theta: the slowest pair slowed by the factor, the fastest left as it is",
    "yarn": "slow pairs divided by the factor, fast ones kept, a ramp between; logits sharpened",
}


def check_methods(methods: Sequence[str]) -> list[str]:
    """The methods without repeats, in the order given; ValueError for one that does not exist."""
    known = ", ".join(METHODS)
    if not isinstance(methods, (list, tuple)):
        raise ValueError(f"methods={methods}: must be a list; for instance [none,yarn]")
    if not methods:
        raise ValueError(f"methods=[]: at least one is needed; there are: {known}")
    for name in methods:
        if name not in METHODS:
            close = difflib.get_close_matches(str(name), METHODS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"methods=[{name}]: no such method; {hint}There are: {known}")
    return list(dict.fromkeys(methods))


def refusal(name: str, model: nn.Module) -> str | None:
    """Why the method cannot be used on this model, or None where it can."""
    if name != "none" and model.config.position != "rope":
        return f"nothing to scale: position={model.config.position} has no rotation"
    return None


def leaves_as_trained(name: str, model: nn.Module, *, context: int, train_length: int) -> bool:
    """Whether the method changes nothing at this length: its factor is 1, or it is `none`.

    With factor 1 every method gives plain RoPE, which is the trained model unless that was
    itself trained with a scaling.
    """
    return name == "none" or (context <= train_length and model.config.scaling.method == "none")


@contextmanager
def applied(name: str, model: nn.Module, *, context: int, train_length: int) -> Iterator[None]:
    """The model under a method at a length; afterwards, come what may, its own frequencies."""
    if leaves_as_trained(name, model, context=context, train_length=train_length):
        yield
        return
    try:
        model.set_scaling(name, seq_len=context, train_length=train_length)
        yield
    finally:
        model.set_scaling(**model.config.scaling.arguments())
