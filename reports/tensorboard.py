"""A comparison in TensorBoard: its words as text, its figures as pictures. Needs no torch."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from common.figures import png
from reports.comparison import Comparison
from reports.files import markdown

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

TEXT = "comparison"  # the name of the run, and of the text
PICTURES = "val_comparison"
WIDTH = 80  # characters of a table that TensorBoard shows without breaking its cells


def log_comparison(comparison: Comparison, directory: Path) -> None:
    """Write event files into `directory`, in the place of those that lie there."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    writer = EventFileWriter(str(directory))
    for summary in (_text(markdown(comparison, WIDTH)), *_pictures(comparison)):
        writer.add_event(Event(wall_time=time.time(), step=0, summary=summary))
    writer.close()


def _text(text: str) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    plugin = SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[text.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = SummaryMetadata(plugin_data=plugin)
    value = Summary.Value(tag=TEXT, metadata=metadata, tensor=tensor)
    return Summary(value=[value])


def _pictures(comparison: Comparison) -> list[Summary]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    found = []
    for name, figure in comparison.figures.items():
        content = png(figure)
        width, height = struct.unpack(">II", content[16:24])  # where every PNG has them
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=content
        )
        found.append(Summary(value=[Summary.Value(tag=f"{PICTURES}/{name}", image=image)]))
    return found
