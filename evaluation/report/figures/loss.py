"""Loss and perplexity ratio against context length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from evaluation.report.figures import labels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Limits = tuple[float, float]
Form = Callable[[float], str]
_LINE = 0.15  # inches of a line of the subtitle


def loss_figure(result: Mapping[str, Any]) -> Figure:
    """Bits per byte against context length, a curve and its 95 % band per method.

    The axis is cut off where some methods would press the others flat, and the subtitle says at
    which value. Then the bands, which are wider than what sets the others apart, are left out.
    """
    p = result["protocol"]
    scored = f"the same {p['target_tokens']} tokens in each of {p['passages']} passages"
    what = f"bits per byte of {scored}"
    fig, _ = _curves(
        result, "bpb", "ci95", "Reading past the training length", what, "{:.2f}".format
    )
    return fig


def ratio_figure(result: Mapping[str, Any]) -> Figure:
    """Perplexity over that at the training length, on the same passages, as `loss_figure`.

    Passages differ from each other by more than lengths do. These bands are those of paired
    differences: they tell whether a model reads better or worse with more text before it.
    """
    what = f"of the same tokens, over that of the model as trained at {result['train_length']:,}"
    keys = "perplexity_ratio", "perplexity_ratio_ci95"
    fig, ax = _curves(result, *keys, "Perplexity with more text before it", what, _ratio)
    ax.axhline(1, color=style.GREY, linewidth=1, zorder=0)
    return fig


def has_ratios(result: Mapping[str, Any]) -> bool:
    """Whether there is a length to compare the training length with; older results have none."""
    elsewhere = [n != result["train_length"] for n in result["lengths"]]
    return any(
        there and ratio is not None
        for method in result["methods"].values()
        for there, ratio in zip(elsewhere, method.get("perplexity_ratio", []), strict=False)
    )


def _curves(
    result: Mapping[str, Any], key: str, bands_key: str, title: str, what: str, form: Form
) -> tuple[Figure, Axes]:
    methods, lengths = result["methods"], result["lengths"]
    measured = {name: [y for y in m[key] if y is not None] for name, m in methods.items()}
    if not any(measured.values()):
        fig = style.saying(title, _why_nothing(result))
        return fig, fig.axes[0]
    looks, ends = style.styles(methods), []
    for name, values in methods.items():
        points = style.points_of(lengths, values[key])
        ends += labels.end_of(points, name, lengths[-1], looks[name], form)
    more = _absent(result, measured)
    if max(map(len, measured.values())) == 1:
        more.append("measured at one length: there are points and no curves")
    fig, ax = labels.chart(ends, above=_LINE * len(more))
    limits = style.cut_off(measured)
    for name, values in methods.items():
        bands = values[bands_key] if limits is None else [None] * len(lengths)
        style.curve(ax, lengths, values[key], bands, looks[name], len(methods))
    style.lengths_axis(ax, lengths, result["train_length"])
    style.mark_train_length(ax, result["train_length"])
    style.remove_frame(ax)
    if limits is not None:
        ax.set_ylim(*limits)
    labels.label_ends(fig, ax, ends)
    style.title(fig, title, "\n".join([_subtitle(what, measured, limits, form), *more]))
    return fig, ax


def _why_nothing(result: Mapping[str, Any]) -> str:
    """Why there is no loss at all."""
    if "loss" not in result["protocol"].get("measures", ("loss",)):
        return "The loss was not asked for: there are other measures only."
    reasons = [why for by in result.get("reasons", {}).values() for why in by.values()]
    whys = "; ".join(dict.fromkeys(reasons))
    return f"No method could be measured at any length: {whys or 'no reason is known'}."


def _absent(result: Mapping[str, Any], measured: Mapping[str, list[float]]) -> list[str]:
    """A line on the methods that have no curve, for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reasons in result.get("reasons", {}).items():
        if reasons and not measured.get(name):
            by_reason.setdefault(next(iter(reasons.values())), []).append(name)
    lines = [f"no curve of {', '.join(names)}: {why}" for why, names in by_reason.items()]
    return [line if len(line) <= 110 else f"{line[:109]}…" for line in lines]


def _ratio(y: float) -> str:
    return f"{y:,.0f}" if y >= 100 else f"{y:.4g}"


def _subtitle(
    what: str, measured: Mapping[str, list[float]], limits: Limits | None, form: Form
) -> str:
    if limits is None:
        return f"{what}, with 95 % intervals; lower is better"
    above = [max(values) for values in measured.values() if values and max(values) > limits[1]]
    on = "1 curve goes on" if len(above) == 1 else f"{len(above)} curves go on"
    return f"{what}; lower is better\naxis cut off at {limits[1]:.2f}: {on}, to {form(max(above))}"
