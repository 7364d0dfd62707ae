"""Figures as files: PNG, SVG and PDF, the same bytes whenever the same is drawn.

write_figure(fig, "runs/x", "extrapolation", ["png", "svg"])

matplotlib and PIL, which it requires, are imported where something is drawn, so that a command's
start does not wait for them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.files import write_bytes
from common.rules import Rule, list_of, one_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Formats = str | Sequence[str]  # as the key `figures` has them: one, or a list

MOST_BYTES = 300_000  # of a PNG
_XML = '<?xml version="1.0" encoding="utf-8"?>\n'
# Text stays text, to be found and edited: SVG names the fonts that it would like, PDF has them.
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "ropewalk", "pdf.fonttype": 42}
_NOT_SAID = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
}


def write_figure(fig: Figure, directory: str | Path, name: str, formats: Formats) -> list[Path]:
    """Write directory/<name>.<format> in each of `formats`; returns the paths.

    All are drawn before the first is written, and each file is whole or not there. Raises OSError.
    """
    formats = [formats] if isinstance(formats, str) else formats
    drawn = {Path(directory) / f"{name}.{one}": FORMATS[one](fig) for one in formats}
    for path, content in drawn.items():
        write_bytes(path, content)
    return list(drawn)


def png(fig: Figure) -> bytes:
    """The figure as a PNG with a palette: all that is drawn in a third of the bytes.

    The palette shrinks while the file is above `MOST_BYTES`, to 16 colours at the least.
    """
    image = picture(fig)
    for colours in (256, 64, 32, 16):
        out = io.BytesIO()
        image.quantize(colours).save(out, "png", optimize=True)
        if out.tell() <= MOST_BYTES:
            break
    return out.getvalue()


def svg(fig: Figure) -> str:
    """The figure as an <svg> element, to stand in a file or a page.

    It refers to nothing outside itself, and its parts are named by their content, so that several
    may stand in one page.
    """
    text = _saved(fig, "svg").decode("utf-8")
    element = text[text.index("<svg") :]  # without the address of a document type
    return element.replace("*{", "text{white-space: pre} *{", 1)  # spaces at the ends count


def pdf(fig: Figure) -> bytes:
    """The figure as a PDF of one page."""
    return _saved(fig, "pdf")


def picture(fig: Figure) -> Image:
    """The figure's pixels, RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    agg = FigureCanvasAgg(fig)
    agg.draw()
    size = agg.get_width_height(physical=True)
    return Image.frombytes("RGBA", size, agg.buffer_rgba()).convert("RGB")


def _saved(fig: Figure, kind: str) -> bytes:
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context(_STYLE):
        fig.savefig(out, format=kind, metadata=_NOT_SAID[kind])
    return out.getvalue()


FORMATS = {"png": png, "svg": lambda fig: (_XML + svg(fig)).encode(), "pdf": pdf}

_ONE = one_of(FORMATS, "png")
_SEVERAL = list_of(_ONE)


def _holds(value: Any) -> bool:
    return _ONE.holds(value) or _SEVERAL.holds(value)


def _works(value: Any) -> object:
    return (_SEVERAL if isinstance(value, list | tuple) else _ONE).works(value)


RULE = Rule(f"{_ONE.text}, or a list of them", _holds, _works)
