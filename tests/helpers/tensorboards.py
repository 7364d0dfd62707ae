"""What a person sees in TensorBoard, read by its own code from a directory of runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

SHOWN = 5  # of the columns, and of the metrics: what the table shows before one asks for more
Points = list[tuple[int, float]]


def events(directory: Path) -> EventAccumulator:
    """Everything in the event files of one directory."""
    sizes = {"scalars": 0, "tensors": 0, "images": 0}
    return EventAccumulator(str(directory), size_guidance=sizes).Reload()


def points(directory: Path, tag: str) -> Points:
    """(step, value) of a curve, by step.

    Event files of one second and one process are read in the order of their numbers as text: 10
    comes before 9. Runs that go on in another process are in order.
    """
    return sorted((event.step, event.value) for event in events(directory).Scalars(tag))


def hparams(logdir: Path) -> tuple[list[str], list[str], dict[str, dict[str, Any]]]:
    """The tab HParams: keys and metrics in their order, and each row with all its cells."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(logdir))
    backend, request = Context(TBContext(data_provider=provider)), context.RequestContext()
    asked = api_pb2.GetExperimentRequest()
    experiment = get_experiment.Handler(request, backend, "", asked).run()
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS]
    listed = api_pb2.ListSessionGroupsRequest(allowed_statuses=statuses, slice_size=1000)
    groups = list_session_groups.Handler(request, backend, "", listed).run().session_groups
    keys = [info.name for info in sorted(experiment.hparam_infos, key=lambda i: not i.differs)]
    return keys, [info.name.tag for info in experiment.metric_infos], dict(map(_row, groups))


def _row(group: Any) -> tuple[str, dict[str, Any]]:
    cells = {key: getattr(v, v.WhichOneof("kind")) for key, v in group.hparams.items()}
    return group.name, cells | {value.name.tag: value.value for value in group.metric_values}


def once_a_step(found: Points) -> Points:
    """What TensorBoard's fast loader, the default one, keeps: the last point of a step."""
    return list(dict(found).items())


def smoothed(found: Points, weight: float = 0.6) -> Points:
    """As the browser draws a curve: an exponential mean, corrected for its beginning."""
    drawn, last = [], 0.0
    for count, (step, value) in enumerate(found, start=1):
        last = last * weight + (1 - weight) * value
        drawn.append((step, last / (1 - weight**count)))
    return drawn


def groups_of(tags: Iterable[str]) -> Sequence[str]:
    """The groups of Time Series in their order, of which the first two are open."""
    return list(dict.fromkeys(tag.split("/")[0] for tag in sorted(tags)))
