"""What the figures of an evaluation show: read back from their lines, images and texts."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from common.figures import FORMATS
from evaluation.report.figures import draw_all, figures, images, labels, log_figures, style
from evaluation.report.figures.loss import loss_figure, ratio_figure
from evaluation.report.figures.position_maps import maps_figure, relative_positions
from evaluation.report.figures.spectrum import spectrum_figure
from methods.maps import Window
from model import TransformerConfig

L, LENGTHS = 256, [256, 512, 1024, 2048]
METHODS = ["none", "yarn", "yarn+logn", "rerope@64+logn", "dual-chunk"]
CONFIG = TransformerConfig(vocab_size=64, n_layers=2, d_model=64, n_heads=2)
DEPTHS = [0.0, 0.5, 1.0]


def by_length(figure_of, methods=METHODS, lengths=LENGTHS):
    return {name: {str(n): figure_of(i, n) for n in lengths} for i, name in enumerate(methods)}


def passkey(i, n):
    share = 1 if n <= L else (i + 1) / 5
    return {
        "accuracy": share,
        "ci95": [share - 0.1, min(1, share + 0.1)],
        "digit_accuracy": share,
        "depths": DEPTHS,
        "correct": [round(10 * share), 0, 5],
        "trials": [10, 10, 10],
    }


def copy(i, n):
    return {"accuracy": 0.5, "control": 0.2, "gain": 0.3 / (i + 1), "ci95": None, "trials": 1}


def positions(i, n):
    return {"from": [1, 2, 4], "to": [1, 3, 8], "nll": [3.0, 2.0, 1.0 + i], "ci95": [None] * 3}


def attention(i, n):
    layer = {"mean_distance": n / 4, "beyond_training": 0.5, "first_tokens": 0.0, "entropy": 1.0}
    return {"layers": [layer] * (1 + (i > 0))}


def result_of(**measures):
    bpb = {name: [2.0 + 0.25 * i * k for k in range(4)] for i, name in enumerate(METHODS)}
    bpb["none"] = [2.0, 3.0, None, None]
    return {
        "train_length": L,
        "lengths": LENGTHS,
        "protocol": {"passages": 12, "target_tokens": 128},
        "methods": {
            name: {"bpb": values, "ci95": [b and [b - 0.1, b + 0.2] for b in values]}
            | dict.fromkeys(("perplexity_ratio", "perplexity_ratio_ci95"), [None] * 4)
            for name, values in bpb.items()
        },
        "measures": measures,
    }


@pytest.fixture(scope="module")
def result():
    return result_of(
        passkey=by_length(passkey),
        distractors=by_length(passkey, METHODS[:2]),
        copy=by_length(copy),
        positions=by_length(positions),
        attention=by_length(attention),
    )


@pytest.fixture(scope="module")
def drawn(result):
    """Each figure once, for the tests that look at it."""
    return {name: draw() for name, draw in figures(result, CONFIG).items()}


def data(ax, n_points):
    """The points of the curves of this many points, in drawing order."""
    lines = [line for line in ax.lines if len(line.get_xdata()) == n_points]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def texts(fig):
    return " | ".join(
        t.get_text() for ax in fig.axes for t in (*ax.texts, ax.title, ax._left_title)
    )


def test_ratios_are_drawn_with_their_own_bands_around_one():
    result = result_of()
    assert "ratio" not in figures(result, CONFIG)  # nothing to compare with
    ratios = {"none": [1.0, 0.97, None, 0.99], "yarn": [1.001, 1.1, 1.2, 1.3]}
    result["methods"] = {
        name: result["methods"][name]
        | {
            "perplexity_ratio": values,
            "perplexity_ratio_ci95": [v and [v - 0.01, v + 0.02] for v in values],
        }
        for name, values in ratios.items()
    }
    assert "ratio" in figures(result, CONFIG)
    assert "ratio" not in figures(result | {"lengths": [L] * 4}, CONFIG)
    fig = ratio_figure(result)
    (ax,) = fig.axes
    assert data(ax, 3)[0] == ([256, 512, 2048], [1.0, 0.97, 0.99])
    assert data(ax, 4)[0] == (LENGTHS, ratios["yarn"])
    assert any(list(line.get_ydata()) == [1, 1] for line in ax.lines)
    low = ax.collections[0].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(0.96)  # of the ratios, not of the loss
    assert "none 0.99" in texts(fig) and "yarn 1.3" in texts(fig)


def test_passkey_curves_are_the_accuracies_of_each_task(drawn):
    single, distractors = drawn["passkey"].axes
    assert [y for _, y in data(single, 4)] == [[1, *[(i + 1) / 5] * 3] for i in range(5)]
    assert all(x == LENGTHS for x, _ in data(single, 4))
    assert len(single.collections) == 5 and len(data(distractors, 4)) == 2
    assert "rerope@64+logn 80%" in texts(drawn["passkey"])


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100%"),
        (0.996, "99.6%"),
        (0.9996, "99.9%"),
        (0.99, "99%"),
        (0.0, "0%"),
        (-0.001, "0%"),
        (0.125, "12%"),
    ],
)
def test_a_share_reads_100_percent_only_where_it_is_all(share, text):
    assert style.percent(share) == text


def test_heatmaps_are_correct_over_trials_by_depth_and_length(drawn):
    panels = drawn["passkey-depth"].axes
    titles = [ax._left_title.get_text() for ax in panels]
    assert titles[:4] == ["none", "none, distractors", "yarn", "yarn, distractors"]
    assert len(panels) == 7
    image = panels[2].images[0].get_array()
    assert np.array_equal(image, [[1, 0.4, 0.4, 0.4], [0] * 4, [0.5] * 4])
    written = [text.get_text() for text in panels[2].texts]
    assert written == ["100", *["40"] * 3, *["50"] * 4]  # zeros are left blank
    assert panels[2].lines[0].get_xdata()[0] == 0.5  # between 256 and 512


def test_copy_shows_the_gain_of_the_tasks_that_were_measured(drawn):
    (ax,) = drawn["copy"].axes
    assert [y[0] for _, y in data(ax, 4)] == pytest.approx([0.3 / (i + 1) for i in range(5)])
    assert not ax.collections  # no interval of one trial


def test_positions_stand_in_the_middle_of_their_buckets(drawn):
    (ax,) = drawn["positions"].axes
    curves = data(ax, 3)[:5]
    assert curves[2][0] == pytest.approx([1, math.sqrt(6), 8]) and curves[2][1] == [3, 2, 3]
    assert any(list(line.get_xdata()) == [L, L] for line in ax.lines) and ax.get_xscale() == "log"


def test_attention_is_a_share_of_the_context_and_missing_layers_are_masked(drawn):
    mean, *others = drawn["attention"].axes
    shown = mean.images[0].get_array()
    assert shown.shape == (5, 2) and shown.mask.tolist() == [[False, True]] + [[False, False]] * 4
    assert shown.compressed().tolist() == [0.25] * 9
    assert [float(ax.images[0].get_array().max()) for ax in others] == [0.5, 0, 1]
    assert mean.get_yticklabels()[0].get_text().split() == ["none", "2k"]


def test_spectrum_is_the_wavelengths_once_for_each_scaling(drawn):
    (ax,) = drawn["spectrum"].axes
    curves = data(ax, CONFIG.rotary_dim // 2)
    i = np.arange(16)
    assert len(curves) == 2  # log-n and remaps leave the frequencies
    assert np.allclose(curves[0][1], math.tau * 10_000 ** (i / 16))
    assert np.allclose(curves[1][1][-1], 8 * curves[0][1][-1])  # yarn's slowest pair, 2048 / 256
    heights = {line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2}
    assert {256, 2048} <= heights
    assert "yarn, logits ×1.46" in texts(drawn["spectrum"])  # (0.1 ln 8 + 1)^2


def test_pairs_that_stand_still_are_left_out_of_the_spectrum():
    (ax,) = spectrum_figure(["proportional@0.25"], CONFIG, L, 2048).axes
    assert len(data(ax, 16)) == 1 and len(data(ax, 4)) == 1


def test_remaps_show_the_map_itself(drawn):
    curves, *maps, _ = drawn["remaps"].axes
    assert [ax._left_title.get_text() for ax in maps] == ["rerope@64", "dual-chunk"]
    distance, relative = map(np.array, data(curves, len(curves.lines[0].get_xdata()))[0])
    assert np.array_equal(relative, np.minimum(distance, 64))
    image = maps[0].images[0].get_array()
    assert image.shape == (160, 160) and image.max() == 64
    assert np.array_equal(image.mask, np.triu(np.ones((160, 160), dtype=bool), 1))


def test_pairs_that_are_not_attended_to_have_no_relative_position():
    i, j = torch.arange(6)[:, None], torch.arange(6)[None]
    seen = ~np.isnan(relative_positions(Window(3), i, j))
    assert np.array_equal(seen, np.tril(np.ones((6, 6))) - np.tril(np.ones((6, 6)), -3) > 0)


def test_one_length_and_the_training_length_alone_are_drawn():
    assert len(maps_figure(["rerope@4"], 8, 8).axes) == 3
    result = result_of(passkey=by_length(passkey, METHODS[:1], [256]))
    result["lengths"] = [256]
    for values in result["methods"].values():
        values.update({key: values[key][:1] for key in values})
    for draw in figures(result, CONFIG).values():
        images.pixels(draw())


# --- the files -------------------------------------------------------------------------------


def test_only_figures_with_data_are_made_and_json_is_enough(result):
    plain = result_of()
    assert list(figures(plain, CONFIG)) == ["extrapolation", "spectrum", "remaps"]
    del plain["measures"]
    assert list(figures(plain, CONFIG)) == ["extrapolation", "spectrum", "remaps"]
    plain["methods"] = {"none": plain["methods"]["none"], "logn": plain["methods"]["yarn"]}
    plain["measures"] = {"copy": {}, "repeat": {"none": {}}, "positions": {"none": {"256": None}}}
    assert list(figures(plain, CONFIG)) == ["extrapolation"]
    plain["measures"] = {"passkey": {"none": {"256": {"accuracy": 0.5, "ci95": None}}}}
    assert list(figures(plain, CONFIG)) == ["extrapolation", "passkey"]  # no depths
    plain["methods"] = dict.fromkeys(("none", "self-extend", "sinks"), plain["methods"]["none"])
    assert "remaps" in figures(plain, CONFIG)
    assert "remaps" not in figures(plain | {"train_length": 3}, CONFIG)  # their rules want 4
    alibi = TransformerConfig(vocab_size=64, n_layers=2, d_model=64, n_heads=2, position="alibi")
    assert "spectrum" not in figures(result, alibi) and "spectrum" not in figures(result, None)
    assert json.loads(json.dumps(result)) == result  # which is what was drawn


def test_files_are_small_pictures(tmp_path):
    paths = draw_all(result_of(positions=by_length(positions)), CONFIG, tmp_path, "png")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("extrapolation.png", "positions.png", "remaps.png", "spectrum.png")
    ]
    for path in paths:
        assert path.stat().st_size < 300_000
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width > 600


def test_each_figure_is_written_in_each_format(tmp_path, monkeypatch):
    """What formats hold is tested in tests/common; here they are empty, for time's sake."""
    for kind in ("png", "svg"):
        monkeypatch.setitem(FORMATS, kind, lambda fig: b"")
    paths = draw_all(result_of(), CONFIG, tmp_path, ["png", "svg"])
    names = [f"{name}.{kind}" for name in figures(result_of(), CONFIG) for kind in ("png", "svg")]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


class Writer:
    """Keeps what it is given in place of TensorBoard's."""

    def __init__(self):
        self.images = {}

    def add_image(self, tag, image, step, dataformats):
        assert (image.dtype, image.shape[2], step, dataformats) == (np.uint8, 3, 0, "HWC")
        self.images[tag] = image


def test_tensorboard_gets_an_image_of_each():
    writer = Writer()
    log_figures(result_of(), CONFIG, writer)
    assert set(writer.images) == {
        f"val_figures/{n}" for n in ("extrapolation", "spectrum", "remaps")
    }
    assert min(image.std() for image in writer.images.values()) > 5  # something is drawn


# --- the loss of many methods ----------------------------------------------------------------


def many_methods(n=16):
    result = result_of()
    bpb = {f"m{i}": [2, 2 + 0.01 * i, 2 + 0.1 * i, 2 + 0.02 * i * i] for i in range(n)}
    result["methods"] = {name: {"bpb": b, "ci95": [None] * 4} for name, b in bpb.items()}
    return result


def names_of(ax):
    return {text.get_text(): text for text in ax.texts if hasattr(text, "xy")}


def test_axis_is_cut_off_where_some_explode_and_says_so():
    fig = loss_figure(many_methods())
    (ax,) = fig.axes
    top = ax.get_ylim()[1]
    worst = 2 + 0.02 * 15**2
    assert 2 + 0.1 * 6 < top < worst / 1.5
    above = sum(2 + max(0.1 * i, 0.02 * i * i) > top for i in range(16))
    assert f"axis cut off at {top:.2f}: {above} curves go on, to {worst:.2f}" in " ".join(
        text.get_text() for text in fig.texts
    )
    arrows = [name for name in names_of(ax) if name.endswith("↑")]
    assert len(arrows) == sum(2 + 0.02 * i * i > top for i in range(16))


def test_axis_is_whole_where_nothing_explodes(drawn):
    (ax,) = drawn["extrapolation"].axes
    assert ax.get_ylim()[1] > 2 + 0.25 * 4 * 3
    assert "cut off" not in " ".join(text.get_text() for text in drawn["extrapolation"].texts)


def test_labels_of_many_methods_do_not_overlap():
    fig = loss_figure(many_methods(24))
    (ax,) = fig.axes
    images.pixels(fig)
    boxes = sorted((t.get_window_extent() for t in names_of(ax).values()), key=lambda box: box.y0)
    assert len(boxes) == 24
    for below, above in pairwise(boxes):
        assert above.y0 > below.y0 + 0.7 * below.height
    assert max(box.x1 for box in boxes) < fig.bbox.width


def test_a_curve_that_ends_early_says_where(drawn):
    assert "none 3.00 at 512" in names_of(drawn["extrapolation"].axes[0])


def test_log_n_shares_the_colour_of_its_method_and_is_dashed():
    found = style.styles(["none", "yarn", "yarn+logn", "logn", "rerope+logn"])
    assert found["yarn"].colour == found["yarn+logn"].colour != found["none"].colour
    assert found["logn"].colour == found["none"].colour
    assert {found[name].dashes for name in ("yarn+logn", "logn", "rerope+logn")} == {"--"}
    many = style.styles([f"m{i}{end}" for i in range(20) for end in ("", "+logn")])
    assert len(set(many.values())) == 40


@pytest.mark.parametrize("seed", range(20))
def test_spread_keeps_the_gap_the_order_and_the_mean(seed):
    rng = np.random.default_rng(seed)
    wanted = np.sort(rng.random(rng.integers(1, 12)) ** 2)
    placed = labels.spread(wanted, 0.05, -10, 10)
    assert (np.diff(placed) >= 0.05 - 1e-12).all()
    assert placed.mean() == pytest.approx(wanted.mean())
    assert np.allclose(labels.spread(placed, 0.05, -10, 10), placed)
    for _ in range(50):  # no other places that keep the gap are nearer
        other = (
            placed[0]
            + rng.normal() * 0.1
            + np.concatenate([[0], np.cumsum(np.diff(placed) + rng.random(len(placed) - 1) * 0.05)])
        )
        assert ((other - wanted) ** 2).sum() >= ((placed - wanted) ** 2).sum() - 1e-12


def test_spread_stays_inside_and_shrinks_the_gap_where_there_is_no_room():
    assert labels.spread(np.array([0.98, 0.99, 1.0]), 0.1, 0, 1).tolist() == pytest.approx(
        [0.8, 0.9, 1.0]
    )
    assert labels.spread(np.full(5, 0.5), 0.5, 0, 1).tolist() == [0, 0.25, 0.5, 0.75, 1]


def zeros(measure_of):
    """A measure's figures of a model that finds nothing, at every length."""

    def figures(i, n):
        found = {"accuracy": 0.0, "gain": 0.001 * i, "correct": [0, 0, 0]}
        return measure_of(i, n) | found | {"ci95": [-0.01 * (measure_of is copy), 0.02]}

    return by_length(figures)


def words(fig):
    return " ".join(t.get_text() for ax in fig.axes for t in ax.texts).replace("\n", " ")


def test_a_model_that_finds_nothing_is_said_in_words():
    result = result_of(passkey=zeros(passkey), copy=zeros(copy), repeat=zeros(copy))
    drawn = {name: draw() for name, draw in figures(result, CONFIG).items()}
    no_key = "No key is found at any length by any method: 30 trials each."
    for name in ("passkey", "passkey-depth"):
        assert words(drawn[name]) == no_key and not drawn[name].axes[0].lines
    assert "Nothing is copied from a passage seen before at any length" in words(drawn["copy"])
    assert "from a text that repeats at any length by any method: 1 trial" in words(drawn["copy"])


def test_beside_a_task_that_is_solved_the_other_is_said_in_words(result):
    task = result["measures"]["passkey"]
    both = result | {"measures": {"passkey": task, "distractors": zeros(passkey)}}
    single, distractors = figures(both, CONFIG)["passkey"]().axes
    assert len(data(single, 4)) == 5 and not distractors.lines
    assert "No key among distractors is found" in distractors.texts[0].get_text()


def test_one_find_is_a_curve():
    """Negative control: a single key, once, is not nothing."""
    one = zeros(passkey)
    one["yarn"]["512"] = one["yarn"]["512"] | {"accuracy": 1 / 30, "correct": [1, 0, 0]}
    fig = figures(result_of(passkey=one), CONFIG)["passkey"]()
    assert len(data(fig.axes[0], 4)) == 5 and "No key" not in words(fig)


def test_a_loss_without_figures_says_why():
    result = result_of()
    for values in result["methods"].values():
        values["bpb"] = values["ci95"] = [None] * 4
    assert "no reason is known" in words(loss_figure(result))
    result["reasons"] = {name: {str(n): "out of GPU memory" for n in LENGTHS} for name in METHODS}
    said = "No method could be measured at any length: out of GPU memory."
    assert words(loss_figure(result)) == said
    result["protocol"]["measures"] = {"passkey": ""}
    assert words(loss_figure(result)).startswith("The loss was not asked for")


def test_methods_without_a_curve_and_single_points_are_named():
    result = result_of() | {"reasons": {"yarn": {"256": "nothing to scale"}}}
    assert "no curve of" not in subtitles(loss_figure(result))  # it has one at other lengths
    for name in METHODS:
        result["methods"][name]["bpb"] = [2.0, None, None, None]
    result["methods"]["yarn"]["bpb"] = [None] * 4
    said = subtitles(loss_figure(result))
    assert "no curve of yarn: nothing to scale" in said
    assert "measured at one length: there are points and no curves" in said


def subtitles(fig):
    return " ".join(text.get_text() for text in fig.texts)
