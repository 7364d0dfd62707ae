"""What every layer may see and whether it knows positions: `model.window` and `model.pattern`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from common.rules import misnamed
from model.positions import EMBEDDED

if TYPE_CHECKING:
    from model.config import TransformerConfig

# What a layer can be: all earlier tokens or a window of them, with positions or without; mixed: a
# window with positions for most heads, and all earlier tokens without positions for the others.
KINDS = ("full", "window", "full-nope", "window-nope", "mixed")


class Layer(NamedTuple):
    """One layer's attention."""

    window: int | None  # tokens that a query sees, itself included; None: all so far
    position: str  # rope, alibi, or nope
    far_heads: int = 0  # heads without window and positions, beside the others

    @property
    def is_far(self) -> bool:
        """Whether all of its heads are without window and positions."""
        return self.window is None and self.position == "nope"


def layers(
    n_layers: int,
    position: str,
    window: int | None,
    pattern: Sequence[str] | None,
    far_heads: int | None = None,
) -> list[Layer]:
    """Every layer's settings. The pattern of `KINDS` repeats; None: all alike."""
    kinds = pattern or ["full" if window is None else "window"]
    own = "nope" if position in EMBEDDED else position
    return [
        Layer(
            window=window if _windowed(kind) else None,
            position="nope" if kind.endswith("-nope") else own,
            far_heads=(far_heads or 0) if kind == "mixed" else 0,
        )
        for kind in (kinds[i % len(kinds)] for i in range(n_layers))
    ]


def _sees_all(layer: Layer) -> bool:
    """Whether any of its heads has no window."""
    return layer.window is None or layer.far_heads > 0


def _any_far(config: TransformerConfig) -> bool:
    """Whether any head has neither window nor positions."""
    far = (layer.is_far or layer.far_heads > 0 for layer in config.layers)
    return config.position not in EMBEDDED and any(far)


def _windowed(kind: str) -> bool:
    return kind == "mixed" or kind.startswith("window")


def layer_problems(config: TransformerConfig) -> list[str]:
    """Every broken rule that ties positions and windows to other keys; each is well-formed."""
    problems = _pattern_problems(config.n_layers, config.position, config.window, config.pattern)
    if config.position == "learned" and config.max_length is None:
        problems.append("position=learned: needs data.seq_len, the number of positions to learn")
    if config.position == "sinusoidal" and config.d_model % 2:
        problems.append(f"model.d_model={config.d_model}: must be even with position=sinusoidal")
    problems += _random_problems(config.random_positions, config.position, config.train_length)
    if not problems:
        problems += _far_problems(config)
    if not problems and config.crossbatch and not _any_far(config):
        problems.append(
            f"model.crossbatch={config.crossbatch}: has no effect, since no head is without window "
            "and positions; leave it out, or try model.window=64 model.pattern=[window,full-nope]"
        )
    if not problems and config.ssmax and not any(map(_sees_all, config.layers)):
        problems.append(
            "model.ssmax=true: has no effect, since every layer has a window; add full layers, as "
            "in model.pattern=[window,full]"
        )
    return problems


def _far_problems(config: TransformerConfig) -> list[str]:
    """Rules of model.far_heads, which pattern, heads and position tie."""
    far, pattern, group = config.far_heads, config.pattern or (), config.n_heads // config.kv_heads
    valid = list(range(group, config.n_heads, group))
    if "mixed" not in pattern:
        if far is None:
            return []
        return [f"model.far_heads={far}: no layer of model.pattern is mixed; leave it out"]
    if not valid:
        return [
            f"model.pattern={_shown(pattern)}: mixed layers need two groups of heads or more; "
            f"try model.n_kv_heads={config.n_heads}"
        ]
    if far not in valid:
        listed = ", ".join(map(str, valid[:12]))
        return [
            f"model.far_heads={'null' if far is None else far}: must be some of "
            f"model.n_heads={config.n_heads} in a mixed layer, whole groups that share keys; "
            f"valid: {listed}"
        ]
    return []


def _random_problems(span: int | None, position: str, train_length: int | None) -> list[str]:
    if span is not None and position == "nope":
        return [f"model.random_positions={span}: has no effect with position=nope; leave it out"]
    if span is not None and span < (train_length or 0):
        return [
            f"model.random_positions={span}: must be at least data.seq_len={train_length}; try "
            f"model.random_positions={8 * train_length}"
        ]
    return []


def _pattern_problems(
    n_layers: int, position: str, window: int | None, pattern: object
) -> list[str]:
    if pattern is None:
        return []
    if not isinstance(pattern, list | tuple) or not 1 <= len(pattern) <= n_layers:
        return [
            f"model.pattern={_shown(pattern)}: must be null or a list of 1 to n_layers={n_layers} "
            f"of {', '.join(KINDS)}; try model.pattern=[full]"
        ]
    for kind in pattern:
        if problems := misnamed("", kind, KINDS, "full"):
            nearest = problems[0].rpartition("=")[2]
            works = [nearest if other == kind else other for other in pattern]
            return [
                f"model.pattern={_shown(pattern)}: each must be one of {', '.join(KINDS)}; try "
                f"model.pattern={_shown(works)}"
            ]
    return _conflicts(position, window, pattern)


def _conflicts(position: str, window: int | None, pattern: Sequence[str]) -> list[str]:
    shown = f"model.pattern={_shown(pattern)}"
    windowed = any(map(_windowed, pattern))
    without = [kind.endswith("-nope") for kind in pattern]
    problems = []
    if windowed and window is None:
        problems.append(f"{shown}: needs the length of the window; try model.window=64")
    if window is not None and not windowed:
        problems.append(
            f"model.window={window}: no layer of {shown} has a window; leave one of them out"
        )
    if (any(without) or "mixed" in pattern) and position in EMBEDDED:
        problems.append(
            f"{shown}: position={position} is in the embedding, so every layer has it; use "
            "position=rope or alibi"
        )
    elif all(without) and position != "nope":
        problems.append(f"{shown}: leaves no layer for position={position}; set position=nope")
    return problems


def _shown(pattern: object) -> str:
    """As it is typed on a command line."""
    return f"[{','.join(map(str, pattern))}]" if isinstance(pattern, list | tuple) else str(pattern)
