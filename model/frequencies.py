"""Rotary frequencies: theta^(-2i/d), as a scaling method changes them.

Pair i of a rotary embedding turns by inv_freq[i] radians per position (RoFormer,
arXiv:2104.09864). The methods stand in `model.scalings`; here is the function that checks what it
is given and calls one.
"""

from collections.abc import Mapping
from dataclasses import fields

from common.rules import (
    BOOLEAN,
    above,
    among,
    broken,
    even,
    integer,
    misnamed,
    number,
    numbers_above,
)
from model.scalings import SCALINGS, Frequencies

# factor=None is seq_len / train_length
_STRETCHED = ("linear", "ntk", "ntk-by-parts", "yarn", "llama3")
_NEEDS_TRAIN_LENGTH = ("dynamic", "ntk-by-parts", "yarn", "longrope", "llama3")
_LENGTH = integer(1, 2**40)
_RULES = {  # the rule of every setting, and a value that keeps it
    "factor": (number(1, 1e12), 4.0),
    "train_length": (_LENGTH, 256),
    "beta_fast": (above(0), 32.0),
    "beta_slow": (above(0), 1.0),
    "attention_factor": (above(0), 1.0),
    "mscale": (above(0), 1.0),
    "mscale_all_dim": (above(0), 1.0),
    "truncate": (BOOLEAN, "true"),
    "short_factor": (numbers_above(0), "[1.0, 1.0, ...]"),
    "long_factor": (numbers_above(0), "[1.0, 1.5, ...]"),
    "low_freq_factor": (above(0), 1.0),
    "high_freq_factor": (above(0), 4.0),
    "partial_rotary_factor": (number(0, 1), 0.25),
}


def rope_frequencies(
    rotary_dim: int,
    theta: float = 10000.0,
    *,
    method: str = "none",
    seq_len: int | None = None,
    train_length: int | None = None,
    factor: float | None = None,
    **options: object,
) -> Frequencies:
    """The frequencies of a rotary embedding under a scaling method.

    `factor=None` means seq_len / train_length (at least 1) for linear, ntk, ntk-by-parts, yarn and
    llama3, and for longrope's attention factor; 1 for dynamic and proportional. `seq_len=None` is
    the training length to dynamic and longrope. `options` are named as Hugging Face names them;
    None stands for an option's default.

    Returns inv_freq (rotary_dim/2,) float64 on the CPU, in radians per position, and the
    attention factor. Raises ValueError, every broken rule on a line, for an unknown method, an
    option that the method does not use, or a value out of range.
    """
    settings = {"train_length": train_length, "factor": factor, **options}
    problems = broken("rotary_dim", rotary_dim, even(2, 512), 64)
    problems += broken("theta", theta, above(0), 10000.0)
    problems += scaling_problems(method, settings, seq_len=seq_len)
    if problems:
        raise ValueError("\n".join(problems))
    given = {name: value for name, value in settings.items() if value is not None}
    return SCALINGS[method](**given)(theta, rotary_dim, seq_len)


def scaling_problems(
    method: object, settings: Mapping[str, object], *, seq_len: object = None
) -> list[str]:
    """Every broken rule of a scaling, a line each; `settings` are train_length, factor, options."""
    problems = misnamed("method", method, SCALINGS, "yarn")
    if problems:
        return problems
    known = [field.name for field in fields(SCALINGS[method])]
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if name in known:
            rule, example = _RULES[name]
            problems += broken(name, value, rule, example)
        else:
            problems.append(f"{name}={value!r}: {method} does not use it; {among(name, known)}")
    if seq_len is not None:
        problems += broken("seq_len", seq_len, _LENGTH, 1024)
    return problems or _missing(method, given, seq_len) + _conflicts(given)


def _missing(method: str, given: Mapping[str, object], seq_len: object) -> list[str]:
    """What the method cannot do without."""
    problems = []
    if method in _NEEDS_TRAIN_LENGTH and "train_length" not in given:
        problems.append(
            f"train_length=None: {method} needs the length that the model was trained at; try "
            "train_length=256"
        )
    if (
        method in _STRETCHED
        and "factor" not in given
        and (seq_len is None or "train_length" not in given)
    ):
        problems.append(
            f"factor=None: {method} needs it, or seq_len and train_length; try factor=4.0"
        )
    if method == "longrope":
        lists = [name for name in ("short_factor", "long_factor") if name not in given]
        problems += [
            f"{name}=None: longrope needs a list, a number for each pair" for name in lists
        ]
        if given.get("train_length") == 1:
            problems.append("train_length=1: longrope divides by its logarithm; use 2 or more")
    return problems


def _conflicts(given: Mapping[str, object]) -> list[str]:
    """Options that do not go together, of which one would be ignored or divided by zero."""
    problems = []
    if ("mscale" in given) != ("mscale_all_dim" in given):
        problems.append("mscale, mscale_all_dim: one is given without the other; give both or none")
    if "mscale" in given and "attention_factor" in given:
        problems.append("mscale: is not used beside attention_factor; give one of them")
    for low, high in (("beta_slow", "beta_fast"), ("low_freq_factor", "high_freq_factor")):
        lower, upper = (given.get(name, _RULES[name][1]) for name in (low, high))
        if lower >= upper:
            problems.append(f"{high}={upper!r}: must be above {low}={lower!r}")
    return problems
