"""A run's row in TensorBoard's HParams, which is there from the first step on.

A row holds every value of the config, so that no cell of a table is blank, whichever runs it
compares. Of the columns TensorBoard shows five, and of the curves five. A job of a sweep says
which: what was swept, and the figures to compare by. Where several runs say so, TensorBoard asks
any one of them; so a run by itself says nothing, and among such runs what differs comes first.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    PLUGIN_NAME,
    SESSION_START_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from common.dotted import leaves
from methods.method import parse_method
from training.prepare import Prepared
from training.resume_point import EVENTS
from training.tags import EXTRAPOLATION, LOWEST, SPEED

ALWAYS = ("seed", "optimizer.lr")  # columns of every sweep
# What a group stands for that was swept as a whole (`model=nano,mini`)
GROUPS = {
    "model": ("model.n_layers", "model.d_model", "model.n_heads"),
    "rope": ("rope.backend",),
    "scaling": ("scaling.method",),
    "data": ("data.corpus", "data.seq_len"),
    "optimizer": ("optimizer.lr",),
}
# What says where a run lies, or what is done beside its training
OTHER = (
    *("name", "run_dir", "resume", "hydra", "figures"),
    *("evaluation", "callbacks", "logger", "checkpoints", "phases"),
)

Value = bool | int | float | str


def log_row(
    logger: TensorBoardLogger,
    values: Mapping[str, Value],
    columns: Mapping[str, bool],
    tags: Sequence[str],
) -> None:
    """Write a row; where it has `columns`, them and the tags of the curves to compare by."""
    start = SessionStartInfo(start_time_secs=time.time())
    for key, value in values.items():
        ParseDict(value, start.hparams[key])
    data = {SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start)}
    if columns:
        data[EXPERIMENT_TAG] = HParamsPluginData(experiment=_experiment(values, columns, tags))
    for tag, content in data.items():
        logger.experiment.file_writer.add_summary(_summary(tag, content), 0)
    logger.experiment.flush()  # now, or the row would be there after two minutes


def row(prepared: Prepared) -> dict[str, Value]:
    """Every value of the config, by its dotted key; the backend is the one at work."""
    config = {key: value for key, value in prepared.config.items() if key not in OTHER}
    values = {key: _plain(value) for key, value in leaves(config).items()}
    return {**values, "rope.backend": prepared.backend}


def columns(values: Mapping[str, Value], swept: Sequence[str]) -> dict[str, bool]:
    """The columns of a sweep's jobs, whose rows have `values`: each with whether it was swept."""
    keys = [key for one in swept for key in GROUPS.get(one, (one,)) if key in values]
    others = [key for key in ALWAYS if key not in keys]
    return {**dict.fromkeys(keys, True), **dict.fromkeys(others, False)} if keys else {}


def curves(config: Mapping[str, Any]) -> list[str]:
    """The tags whose last values are compared: loss, speed, and the longest context's loss."""
    asked = config["evaluation"]
    tags = [LOWEST, "val/bpb", SPEED]
    if "loss" not in asked["measures"] or (asked["lengths"] and len(set(asked["lengths"])) < 2):
        return tags  # one context makes no curve
    methods = [parse_method(name).name for name in asked["methods"]]
    # From plain to elaborate, as one lists them, the first and the last say most.
    others = reversed(methods[1:]) if config["position"] == "rope" else ()
    return tags + [EXTRAPOLATION.format("bpb", name) for name in (*methods[:1], *others)]


def logged_columns(directory: Path) -> dict[str, bool]:
    """The `columns` of the row in `directory`, TensorBoard's; none where there is no row."""
    for path in sorted(directory.glob(EVENTS)):
        for record in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(record).summary.value:
                if value.tag == EXPERIMENT_TAG:
                    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    infos = content.experiment.hparam_infos
                    return {info.name: info.differs for info in infos}
    return {}


def _experiment(
    values: Mapping[str, Value], columns: Mapping[str, bool], tags: Sequence[str]
) -> api_pb2.Experiment:
    return api_pb2.Experiment(
        hparam_infos=[
            api_pb2.HParamInfo(name=key, type=_type(values[key]), differs=differs)
            for key, differs in columns.items()
        ],
        metric_infos=[api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags],
    )


def _plain(value: Any) -> Value:
    """A value as TensorBoard takes it: what is no finite number, bool or text is put in words."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return "null" if value is None else str(value)


def _type(value: Value) -> int:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _summary(tag: str, data: HParamsPluginData) -> Summary:
    # TensorBoard's own function for this needs TensorFlow.
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])
