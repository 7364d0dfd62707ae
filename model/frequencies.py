"""Rotary frequencies: theta^(-2i/d), as a scaling method changes them.

Pair i of a rotary embedding turns by inv_freq[i] radians per position (RoFormer,
arXiv:2104.09864). The methods stand in `model.scalings`; here is the function that checks what it
is given and calls one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from common.rules import above, among, at_least, even, one_of, problems, refuse
from model.numbers import as_python
from model.scalings import SCALINGS, SETTINGS, STRETCHED

if TYPE_CHECKING:
    from model.scalings import Frequencies

_LISTS = ("short_factor", "long_factor")
RULES = {
    "rotary_dim": even(2, 512, 64),
    "theta": above(0, 10000.0),
    "seq_len": at_least(1, 1024),
}


def rope_frequencies(
    rotary_dim: int,
    theta: float = 10000.0,
    *,
    method: str = "none",
    seq_len: int | None = None,
    train_length: int | None = None,
    factor: float | None = None,
    **options: Any,
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
    rotary_dim, theta, seq_len = as_python(rotary_dim), as_python(theta), as_python(seq_len)
    settings = {"train_length": train_length, "factor": factor, **options}
    settings = {name: as_python(value) for name, value in settings.items()}
    lines = problems({"rotary_dim": rotary_dim, "theta": theta}, RULES)
    width = None if lines else rotary_dim
    refuse(lines + scaling_problems(method, settings, seq_len=seq_len, rotary_dim=width))
    return scaling_of(method, **settings)(theta, rotary_dim, seq_len)


def scaling_of(method: str, **settings: Any) -> Any:
    """The scaling of these settings, which are good ones; None stands for a default."""
    return SCALINGS[method](**{name: v for name, v in settings.items() if v is not None})


def scaling_problems(
    method: Any,
    settings: Mapping[str, Any],
    *,
    seq_len: int | None = None,
    rotary_dim: int | None = None,
    typed: Callable[[str], str] = str,
) -> list[str]:
    """Every broken rule of a scaling, a line each; needs no torch.

    `settings`: train_length, factor and options. `rotary_dim`: None where it is not known, so that
    the lengths of lists are not checked. `typed`: what the user calls a setting.
    """
    if wrong := problems({typed("method"): method}, {typed("method"): one_of(SCALINGS, "yarn")}):
        return wrong
    known = [field.name for field in fields(SCALINGS[method])]
    refuse(_unruled(method, known))
    given = {name: value for name, value in settings.items() if value is not None}
    lines = []
    for name, value in given.items():
        if name in known:
            lines += problems({typed(name): value}, {typed(name): SETTINGS[name]})
        else:
            lines.append(f"{typed(name)}={value!r}: {method} does not use it; {among(name, known)}")
    if seq_len is not None:
        lines += problems({"seq_len": seq_len}, RULES)
    if lines:
        return lines
    missing = _missing(method, given, seq_len is not None, typed)
    return missing + _conflicts(method, given, typed) + _lengths(given, rotary_dim, typed)


def _unruled(method: str, known: Sequence[str]) -> list[str]:
    """What whoever added the scaling has forgotten."""
    return [
        f"scaling {method}: its option {name} has no rule; add one to SETTINGS in model/scalings.py"
        for name in known
        if name not in SETTINGS
    ]


def _missing(
    method: str, given: Mapping[str, Any], has_length: bool, typed: Callable[[str], str]
) -> list[str]:
    """What the method cannot do without."""
    lines, length = [], typed("train_length")
    needed = {field.name for field in fields(SCALINGS[method]) if field.default is MISSING}
    if "train_length" in needed - given.keys():
        lines.append(
            f"{length}=None: {method} needs the length that the model was trained at; "
            f"try {length}=256"
        )
    by_length = has_length and "train_length" in given
    if method in STRETCHED and "factor" not in given and not by_length:
        factor = typed("factor")
        or_lengths = ", or seq_len and train_length" if typed is str else ""  # no config has both
        lines.append(f"{factor}=None: {method} needs a number{or_lengths}; try {factor}=4.0")
    if method == "longrope":
        lines += [
            f"{typed(name)}=None: longrope needs a list, a number for each pair"
            for name in _LISTS
            if name not in given
        ]
        if given.get("train_length") == 1:
            lines.append(f"{length}=1: longrope divides by its logarithm; use 2 or more")
    return lines


def _conflicts(method: str, given: Mapping[str, Any], typed: Callable[[str], str]) -> list[str]:
    """Options that do not go together, of which one would be ignored or divided by zero."""
    lines, mscale = [], typed("mscale")
    values: dict[str, Any] = {
        field.name: field.default for field in fields(SCALINGS[method])
    } | dict(given)
    if ("mscale" in given) != ("mscale_all_dim" in given):
        lines.append(f"{mscale}, mscale_all_dim: one is given without the other; give both or none")
    if "mscale" in given and "attention_factor" in given:
        lines.append(f"{mscale}: is not used beside attention_factor; give one of them")
    for low, high in (("beta_slow", "beta_fast"), ("low_freq_factor", "high_freq_factor")):
        if low in values and values[low] >= values[high]:
            lines.append(f"{typed(high)}={values[high]!r}: must be above {low}={values[low]!r}")
    return lines


def _lengths(
    given: Mapping[str, Any], rotary_dim: int | None, typed: Callable[[str], str]
) -> list[str]:
    """Lists that have not a number for each pair."""
    if rotary_dim is None:
        return []
    return [
        f"{typed(name)}=<{len(given[name])} numbers>: must have one for each of the "
        f"{rotary_dim // 2} pairs of rotary_dim={rotary_dim}"
        for name in _LISTS
        if name in given and len(given[name]) != rotary_dim // 2
    ]
