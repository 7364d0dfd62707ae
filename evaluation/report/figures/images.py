"""A drawn figure as pixels, for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.figures import picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def pixels(fig: Figure) -> np.ndarray:
    """The drawn figure, uint8 (height, width, 3)."""
    return np.asarray(picture(fig))
