"""Rules that tie several keys of a model to each other, and keys that there are no more.

What each value must be by itself stands in `model/config.py`. Functions return a line for each
broken rule; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.rules import above, at_least, between, even, integer, number, optional, refuse, shown
from model.frequencies import scaling_problems
from model.layers import EMBEDDED, KINDS

if TYPE_CHECKING:
    from model.config import TransformerConfig

# The arguments of `model.generate`, which generate.py has as keys
GENERATION = {
    "max_new_tokens": integer(1, 2**31, 200),
    "temperature": number(0, 1e6, 0.8),
    "top_k": optional(at_least(1, 40)),
    "top_p": optional(between(0, 1, 0.9)),
    "min_p": optional(between(0, 1, 0.05)),
    "repetition_penalty": above(0, 1.1),
    "seed": optional(integer(0, 2**63 - 1, 0)),
}

# Keys that old checkpoints have. Null, which did nothing, is ignored.
REMOVED = {
    "far_heads": "mixed layers were removed, which gained nothing (docs/results/levers.md); "
    "revision a2e66d8 reads such a model"
}

_ROTARY_DIM = even(2, 512, 64)  # what the kernels rotate
_SHAPE = {f"model.{key}" for key in ("d_model", "n_heads", "n_kv_heads", "head_dim")}


def removed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` without the keys of `REMOVED`; ValueError for one that says something."""
    model = config.get("model")
    if not isinstance(model, Mapping):
        return config
    gone = {key: model[key] for key in REMOVED if model.get(key) is not None}
    refuse([f"model.{key}={shown(value)}: {REMOVED[key]}" for key, value in gone.items()])
    return {**config, "model": {key: value for key, value in model.items() if key not in REMOVED}}


def tied_problems(config: TransformerConfig, malformed: set[str]) -> list[str]:
    """Every broken rule between keys. `malformed`: those that break a rule of their own."""
    lines = [] if malformed & {*_SHAPE, "rope.fraction"} else _shape_problems(config)
    lines += [] if malformed else _layer_problems(config)
    return lines + _scaling_problems(config, width_known=not malformed and not lines)


# Widths and heads


def _shape_problems(config: TransformerConfig) -> list[str]:
    lines, width = [], config.head_width
    if config.head_dim is None and config.d_model % (2 * config.n_heads):
        lines.append(
            f"model.n_heads={config.n_heads}: must divide model.d_model={config.d_model} into an "
            f"even head_dim; {_heads_that_work(config)}"
        )
    elif config.position == "rope" and not _rotates(config.fraction, width):
        shares = [dim / width for dim in range(2, min(width, 512) + 1, 2)]
        lines.append(
            f"rope.fraction={config.fraction}: must make fraction x head_dim={width} "
            f"{_ROTARY_DIM.text}; valid: {_listed(shares, config.fraction)}"
        )
    if config.n_heads % config.kv_heads:
        valid = [n for n in range(1, config.n_heads + 1) if config.n_heads % n == 0]
        lines.append(
            f"model.n_kv_heads={config.n_kv_heads}: must divide model.n_heads={config.n_heads}; "
            f"valid: {_listed(valid, config.kv_heads)}"
        )
    return lines


def _heads_that_work(config: TransformerConfig) -> str:
    """The n_heads that work with every other setting, or a d_model that does with n_heads."""
    fraction = config.fraction if config.position == "rope" else 1.0
    divisors = [n for n in range(1, config.d_model + 1) if config.d_model % n == 0]
    valid = [n for n in divisors if _rotates(fraction, config.d_model // n)]
    shared = [n for n in valid if n % (config.n_kv_heads or 1) == 0]
    if valid:
        return f"valid: {_listed(shared or valid, config.n_heads)}"
    width = next((w for w in range(2, 1024, 2) if _rotates(fraction, w)), 64)
    multiple = config.n_heads * width
    return f"none works; try model.d_model={-(-config.d_model // multiple) * multiple}"


def _rotates(fraction: float, head_dim: int) -> bool:
    """Whether the fraction of head_dim, to six digits, is a number of elements to rotate."""
    exact = fraction * head_dim
    whole = abs(exact - round(exact)) < 1e-3
    return head_dim % 2 == 0 and whole and _ROTARY_DIM.holds(round(exact))


def _listed(valid: Sequence[float], value: float, most: int = 12) -> str:
    """The valid values nearest to the one given, in order."""
    near = sorted(sorted(valid, key=lambda v: abs(v - value))[:most])
    return ", ".join(str(v) if isinstance(v, int) else f"{v:g}" for v in near)


# What layers see, and positions


def _layer_problems(config: TransformerConfig) -> list[str]:
    lines = _pattern_problems(config)
    span, length = config.random_positions, config.train_length
    if config.position == "learned" and config.max_length is None:
        lines.append("position=learned: needs data.seq_len, the number of positions to learn")
    if config.position == "sinusoidal" and config.d_model % 2:
        lines.append(f"model.d_model={config.d_model}: must be even with position=sinusoidal")
    if span is not None and config.position == "nope":
        lines.append(
            f"model.random_positions={span}: has no effect with position=nope; leave it out"
        )
    elif span is not None and length is not None and span < length:
        lines.append(
            f"model.random_positions={span}: must be at least data.seq_len={length}; try "
            f"model.random_positions={8 * length}"
        )
    return lines or _without_effect(config)


def _without_effect(config: TransformerConfig) -> list[str]:
    """Settings that no layer would follow."""
    far = config.position not in EMBEDDED and any(layer.is_far for layer in config.layers)
    if config.crossbatch and not far:
        return [
            f"model.crossbatch={config.crossbatch}: has no effect, since no head is without window "
            "and positions; leave it out, or try model.window=64 model.pattern=[window,full-nope]"
        ]
    if lines := _unheard_of(config):
        return lines
    if config.ssmax and not any(layer.window is None for layer in config.layers):
        return [
            "model.ssmax=true: has no effect, since every layer has a window; add full layers, as "
            "in model.pattern=[window,full]"
        ]
    return []


def _unheard_of(config: TransformerConfig) -> list[str]:
    """Options of norms, scores and frequencies that nothing of this model would heed."""
    lines = []
    if config.norm_bias and config.norm != "layer":
        lines.append("model.norm_bias=true: RMS norms have no bias; try model.norm=layer")
    if config.attention_softcap is not None and config.position == "alibi":
        lines.append(
            f"model.attention_softcap={config.attention_softcap}: is not made for position=alibi, "
            "whose scores have a bias; leave one of them out"
        )
    rotates = config.position == "rope"
    local = any(layer.window and layer.position == "rope" for layer in config.layers)
    if config.local_theta is not None and not (rotates and local):
        lines.append(
            f"rope.local_theta={config.local_theta}: has no effect, since no layer with a window "
            "rotates; leave it out, or try model.window=64 model.pattern=[window,full]"
        )
    return lines


def _pattern_problems(config: TransformerConfig) -> list[str]:
    pattern, window, position = config.pattern, config.window, config.position
    if pattern is None:
        return []
    typed = f"model.pattern={shown(pattern)}"
    if len(pattern) > config.n_layers:
        return [
            f"{typed}: must be null or a list of 1 to n_layers={config.n_layers} of "
            f"{', '.join(KINDS)}; try model.pattern={shown(pattern[: config.n_layers])}"
        ]
    windowed = any(kind.startswith("window") for kind in pattern)
    without = [kind.endswith("-nope") for kind in pattern]
    lines = []
    if windowed and window is None:
        lines.append(f"{typed}: needs the length of the window; try model.window=64")
    if window is not None and not windowed:
        lines.append(
            f"model.window={window}: no layer of {typed} has a window; leave one of them out"
        )
    if any(without) and position in EMBEDDED:
        lines.append(
            f"{typed}: position={position} is in the embedding, so every layer has it; use "
            "position=rope or alibi"
        )
    elif all(without) and position != "nope":
        lines.append(f"{typed}: leaves no layer for position={position}; set position=nope")
    return lines


# The frequencies


def _scaling_problems(config: TransformerConfig, *, width_known: bool) -> list[str]:
    scaling = config.scaling
    if not isinstance(scaling.options, Mapping):
        return [f"scaling.options={shown(scaling.options)}: must be a dictionary; try {{}}"]
    if doubled := sorted({"method", "factor", "train_length"} & set(scaling.options)):
        return [
            f"scaling.options.{key}: belongs one level up; set scaling.{key}" for key in doubled
        ]
    settings, rotates = scaling.arguments(), config.position == "rope"
    width = config.rotary_dim if width_known and rotates else None
    lines = scaling_problems(settings.pop("method"), settings, rotary_dim=width, typed=_scaling_key)
    if lines or rotates or scaling.method == "none":
        return lines
    position = config.position
    return [f"scaling.method={scaling.method}: position={position} rotates nothing; use none"]


def _scaling_key(name: str) -> str:
    """The config key of an argument of `rope_frequencies`."""
    own = name in ("method", "factor", "train_length")
    return f"scaling.{name}" if own else f"scaling.options.{name}"
