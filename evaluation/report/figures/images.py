"""A drawn figure as pixels, and as the bytes of a PNG file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BYTES = 300_000  # of a PNG


def pixels(fig: Figure) -> np.ndarray:
    """The drawn figure, uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    agg = FigureCanvasAgg(fig)
    agg.draw()
    return np.asarray(agg.buffer_rgba())[:, :, :3]


def png(fig: Figure) -> bytes:
    """The drawn figure as a PNG with a palette: all that is drawn in a third of the bytes.

    The palette shrinks while the file is above `MOST_BYTES`, to 16 colours at the least.
    """
    from PIL import Image  # matplotlib requires it

    image = Image.fromarray(pixels(fig))
    for colours in (256, 64, 32, 16):
        out = io.BytesIO()
        image.quantize(colours).save(out, "png", optimize=True)
        if out.tell() <= MOST_BYTES:
            break
    return out.getvalue()
