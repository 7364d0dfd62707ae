"""What is done to a trained model at evaluation time, so that it reads further.

A method is known by its name, `SCALING[@NUMBER][+logn]` or `MAP[@NUMBERS][+logn]`:

    yarn        frequencies scaled by context / training length, anew at each length
    yarn@8      by one factor, 8, at every length, the training length too
    logn        scores scaled with the logarithm of the keys seen
    yarn@8+logn both
    rerope@128  relative positions bent (`methods/registry.py`)
    crop        the model as trained, which sees the last training length of tokens alone: what it
                takes to be better than forgetting

The formulas of the frequencies stand in `model/scalings.py`; `methods/apply.py` puts a method to
work on a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.rules import Rule, nearest, number, refuse, shown
from methods.registry import LEAST_TRAIN_LENGTH, MAPS, example_of, line_of, settings_of
from model.config import TransformerConfig
from model.frequencies import rope_frequencies

DEFAULT_METHODS = ("none", "linear", "ntk", "yarn")

_BY_LENGTH = "context / training length"
_FACTOR = number(1, 1e12, 8)
CROP = "crop"
_CROP = "the model as trained, restricted to the last training length of tokens: a control"
_LOGN = "scores times ln(keys seen) / ln(training length) beyond it"


class _Scaling(NamedTuple):
    """A method of `model.scalings` as used here."""

    line: str  # what it does; {} is the number after the @, or what stands for it
    unnumbered: str = _BY_LENGTH
    numbered: str = "{}"  # what stands for a number
    number: Rule | None = _FACTOR  # what the number must be; None: the method takes none


METHODS: dict[str, _Scaling] = {
    "none": _Scaling("the model exactly as trained", number=None),
    "linear": _Scaling("every frequency divided by {}"),
    "ntk": _Scaling("a larger theta: the slowest pair divided by {}, the fastest kept"),
    "dynamic": _Scaling(
        "ntk by {}; plain up to the training length",
        numbered="{} x (context / training length - 1) + 1",
    ),
    "ntk-by-parts": _Scaling("slow pairs divided by {}, fast ones kept, a ramp between"),
    "yarn": _Scaling("slow pairs divided by {}, fast ones kept, a ramp between; logits sharpened"),
    "longrope": _Scaling(
        "each pair divided by the model's own long_factor beyond its train_length; logits "
        "sharpened for {}"
    ),
    "llama3": _Scaling("long wavelengths divided by {}, short ones kept, a blend between"),
    "proportional": _Scaling(
        "the fastest {} of the pairs turn, the others stand",
        unnumbered="(those with a whole turn in the training length)",
        number=number(0, 1, 0.25)._replace(text="the share of pairs that turn, from 0 to 1"),
    ),
}


@dataclass(frozen=True)
class Method:
    """A scaling of the frequencies, or a map of the positions; and log-n or not. Or the crop.

    Attributes:
        scaling: a name in `METHODS`.
        number: the one factor of all lengths (dynamic: Hugging Face's; proportional: the share of
            pairs that turn), or None.
        logn: whether queries are multiplied by max(1, ln(position + 1) / ln(training length)).
        map: a name in `MAPS`, beside scaling "none", or None.
        settings: the map's own numbers; empty for those that follow from the lengths.
        crop: whether the context is cut to the training length, and nothing else done.
    """

    scaling: str = "none"
    number: float | None = None
    logn: bool = False
    map: str | None = None
    settings: tuple[int, ...] = ()
    crop: bool = False

    @property
    def name(self) -> str:
        """As `parse_method` reads it, in its shortest form."""
        base = CROP if self.crop else self.map or self.scaling
        if self.settings:
            base += f"@{'x'.join(map(str, self.settings))}"
        elif self.number is not None:
            base += f"@{_written(self.number)}"
        if self.logn:
            return "logn" if base == "none" else f"{base}+logn"
        return base

    @property
    def is_control(self) -> bool:
        """Whether it shows what a model is worth that forgets, and is no way to read further."""
        return self.crop or (self.map is not None and MAPS[self.map].control)

    @property
    def line(self) -> str:
        """What the method does to frequencies, positions and scores, for a legend."""
        parts = [] if self == Method(logn=True) else [self._line()]
        return "; ".join(parts + [_LOGN] * self.logn)

    @property
    def follows_length(self) -> bool:
        """Whether frequencies or positions depend on the whole length of the context."""
        if self.map is not None:
            return not self.settings and MAPS[self.map].by_length
        return self.scaling != "none" and (self.number is None or self.scaling == "dynamic")

    def _line(self) -> str:
        if self.crop:
            return _CROP
        if self.map is not None:
            return line_of(self.map, self.settings)
        kind = METHODS[self.scaling]
        if self.number is None:
            return kind.line.format(kind.unnumbered)
        return kind.line.format(kind.numbered.format(_written(self.number)))

    def refusal(self, config: TransformerConfig, train_length: int) -> str | None:
        """Why the method cannot be used on a model of this config, or None where it can."""
        if (self.scaling != "none" or self.map) and config.position != "rope":
            verb = "bend" if self.map else "scale"
            return f"nothing to {verb}: position={config.position} has no rotation"
        if self.map and not any(layer.bends for layer in config.layers):
            return "nothing to bend: every layer has a window or no positions"
        if self.map and MAPS[self.map].control and any(layer.is_far for layer in config.layers):
            return f"layers without positions would see what {self.map} is to hide"
        if self.logn and config.ssmax:
            return "scores grow with log n already: the model has ssmax"
        if self.map and not self.settings and train_length < LEAST_TRAIN_LENGTH:
            example = f"{self.map}@{example_of(self.map)}"
            return f"train_length={train_length}: too short for the rule; name numbers, {example}"
        if self.scaling == "longrope" and config.scaling.method != "longrope":
            return (
                "the model has no factors of its own: longrope needs one built with "
                "scaling=longrope and its short_factor and long_factor"
            )
        if self.logn and train_length < 2:
            return (
                f"train_length={train_length}: log-n divides by its logarithm; it must be 2 or more"
            )
        return None

    def leaves_as_trained(
        self, config: TransformerConfig, *, context: int, train_length: int
    ) -> bool:
        """Whether the method changes nothing at this length.

        Log-n begins past the training length. With factor 1 every scaling gives plain RoPE,
        which is the trained model unless that was itself trained with a scaling.
        """
        if context > train_length:
            return self == Method()
        if self.map is not None:
            return not self.settings and MAPS[self.map].plain_within
        return self.scaling == "none" or (self.follows_length and config.scaling.method == "none")

    def arguments(
        self, config: TransformerConfig, *, context: int, train_length: int
    ) -> dict[str, Any]:
        """The arguments of `Transformer.set_scaling` for a length.

        A model that was trained with the scaling of that name keeps the options of its training.
        """
        trained = config.scaling
        if self.scaling == "none":  # a map bends every length into the training length
            return {**trained.arguments(), "seq_len": train_length if self.map else context}
        own = trained.arguments() if trained.method == self.scaling else {}
        settings: dict[str, Any] = {
            **own,
            "method": self.scaling,
            "seq_len": context,
            "train_length": train_length,
        }
        if self.scaling == "proportional":
            share = self.number if self.number is not None else own.get("partial_rotary_factor")
            if share is None:
                share = _turning_share(config, train_length) if context > train_length else 1.0
            return {**settings, "partial_rotary_factor": share}
        if self.scaling == "longrope":
            settings["train_length"] = trained.train_length
            if self.number is not None:  # past it at every length
                assert trained.train_length is not None  # no longrope without
                settings["seq_len"] = max(context, trained.train_length + 1)
        return {**settings, "factor": self.number}


def _written(number: float) -> str:
    """A number in a name, where a plus sign would begin +logn."""
    return f"{number:.12g}".replace("e+", "e")


def _turning_share(config: TransformerConfig, train_length: int) -> float:
    """The share of pairs that finish a turn within the training length: whose turn was all seen."""
    inv_freq, _ = rope_frequencies(config.rotary_dim, config.theta)
    turns = inv_freq * train_length / math.tau
    seen = int((turns >= 1).sum())
    return min(1.0, (seen + 0.5) / len(turns))  # half a pair more: `Proportional` rounds down


def parse_method(name: str) -> Method:
    """The method of a name: `none`, `yarn`, `yarn@8`, `logn`, `ntk@8+logn`, `rerope@128`, ….

    Raises ValueError for an unknown name, and for a number that the method does not take.
    """
    base, *added = str(name).split("+")
    kind, at, text = base.partition("@")
    logn = base == "logn" and not added
    if kind == CROP:
        if name != CROP:
            raise ValueError(f"methods=[{name}]: crop is by itself; try crop")
        return Method(crop=True)
    if not logn and kind not in METHODS and kind not in MAPS:
        raise ValueError(f"methods=[{name}]: no such method; {_nearest(name, kind)}")
    if added not in ([], ["logn"]):
        raise ValueError(f"methods=[{name}]: only logn can be added; try {base}+logn")
    if logn:
        return Method(logn=True)
    try:
        if kind in MAPS:
            settings = settings_of(kind, text) if at else ()
            return Method(logn=bool(added), map=kind, settings=settings)
        return Method(kind, _number(kind, text) if at else None, bool(added))
    except ValueError as error:
        raise ValueError(f"methods=[{name}]: {'; '.join(str(error).splitlines())}") from error


def _nearest(name: str, kind: str) -> str:
    near = nearest(kind, _names())
    hint = f"did you mean {str(name).replace(kind, near, 1)}? " if near else ""
    return f"{hint}There are: {', '.join(_names())}"


def _names() -> tuple[str, ...]:
    return (*METHODS, *MAPS, CROP, "logn")


def _number(scaling: str, text: str) -> float:
    kind = METHODS[scaling]
    if kind.number is None:
        raise ValueError(f"{scaling} takes no factor; try {scaling}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not kind.number.holds(value):
        raise ValueError(
            f"what follows the @ must be {kind.number.text}; "
            f"try {scaling}@{kind.number.works(text)}"
        )
    return value


def method_problems(methods: Any, prefix: str = "") -> list[str]:
    """A line for each of the key `methods` that does not exist, or one where it is no list."""
    if not isinstance(methods, list | tuple) or not methods:
        return [
            f"{prefix}methods={shown(methods)}: must be a list of one or more; "
            f"try {prefix}methods=[none,yarn]. There are: {', '.join(_names())}"
        ]
    lines = []
    for name in methods:
        try:
            parse_method(name)
        except ValueError as error:
            lines.append(f"{prefix}{error}")
    return lines


def check_methods(methods: Sequence[str]) -> list[Method]:
    """The methods without repeats, in the order given; ValueError for one that does not exist."""
    refuse(method_problems(methods))
    return list(dict.fromkeys(map(parse_method, methods)))


def check_possible(methods: Sequence[str], config: TransformerConfig, train_length: int) -> None:
    """ValueError, a line for each method, where none can be used on a model of this config.

    Beside others that can, one that cannot leaves its reason in place of its figures.
    """
    reasons = {m.name: m.refusal(config, train_length) for m in check_methods(methods)}
    if all(reasons.values()):
        refuse([f"methods=[{name}]: {reason}" for name, reason in reasons.items()])
