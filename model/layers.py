"""What every layer may see and whether it knows positions: `position`, `model.window` and
`model.pattern`."""

from collections.abc import Sequence
from typing import NamedTuple

POSITIONS = ("rope", "nope", "alibi", "sinusoidal", "learned")
EMBEDDED = ("sinusoidal", "learned")  # added to the embedding; no layer knows of them

# What a layer can be: all earlier tokens or a window of them, with positions or without.
KINDS = ("full", "window", "full-nope", "window-nope")


class Layer(NamedTuple):
    """One layer's attention."""

    window: int | None  # tokens that a query sees, itself included; None: all so far
    position: str  # rope, alibi, or nope

    @property
    def is_far(self) -> bool:
        """Whether its heads are without window and positions."""
        return self.window is None and self.position == "nope"

    @property
    def bends(self) -> bool:
        """Whether it meets distances that training never had, which it knows by a rotation."""
        return self.window is None and self.position == "rope"


def layers(
    n_layers: int, position: str, window: int | None, pattern: Sequence[str] | None
) -> list[Layer]:
    """Every layer's settings. The pattern of `KINDS` repeats; None: all alike."""
    kinds = pattern or ["full" if window is None else "window"]
    own = "nope" if position in EMBEDDED else position
    return [
        Layer(
            window=window if kind.startswith("window") else None,
            position="nope" if kind.endswith("-nope") else own,
        )
        for kind in (kinds[i % len(kinds)] for i in range(n_layers))
    ]
