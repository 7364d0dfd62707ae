"""Decoding through the cache gives the full pass's loss, under every method that says it does."""

import numpy as np
import pytest
import torch

from evaluation import METHODS, parse_method
from evaluation.measures.decoding import measure_decode
from evaluation.measures.loss import same_target_nll
from evaluation.passages import choose_passages
from methods.apply import applied
from methods.registry import MAPS
from model import ScalingConfig
from tiny_extrapolation import DOCUMENT, TRAIN_LENGTH, tiny

CONTEXT = 40
LISTS = {"short_factor": [1.0] * 8, "long_factor": [1.0 + i for i in range(8)]}
LONGROPE = ScalingConfig("longrope", factor=2.0, train_length=TRAIN_LENGTH, options=LISTS)
NAMES = [*METHODS, *MAPS, "logn", "yarn@8+logn", "rerope+logn"]
PASSAGES = choose_passages([DOCUMENT], CONTEXT, 2)


def decode(model, name="none", **options):
    lengths = {"context": CONTEXT, "train_length": TRAIN_LENGTH}
    with applied(parse_method(name), model.eval(), **lengths) as ready:
        full = same_target_nll(ready, PASSAGES, CONTEXT, 6)
        return measure_decode(ready, PASSAGES, target_tokens=6, **options), full


@pytest.mark.parametrize("name", NAMES)
def test_decoding_is_the_full_pass_under_every_method(name):
    figures, full = decode(tiny(LONGROPE if name == "longrope" else None), name, chunk=7)
    assert figures["possible"] and figures["why"] is None
    assert figures["full"] == pytest.approx(full.mean(), rel=1e-5)
    assert figures["decoded"] == pytest.approx(full.mean(), rel=1e-4)
    assert figures["difference"] < 2e-3  # float32, weights that make losses of up to 20 nats


@pytest.mark.parametrize("chunk", [1, 34, 64])
def test_the_chunks_do_not_matter_and_all_tokens_are_counted(chunk):
    read = []
    figures, _ = decode(tiny(), chunk=chunk, on_forward=read.append)
    assert figures["difference"] < 2e-3
    assert sum(read) == 2 * PASSAGES[:, 1:].size and read[-1] == len(PASSAGES)


@pytest.mark.parametrize("position", ["alibi", "nope", "sinusoidal"])
def test_other_positions_decode_too(position):
    assert decode(tiny(position=position))[0]["difference"] < 2e-3


def test_a_factor_that_grows_while_decoding_is_found_out():
    model = tiny()
    forward, dynamic = model.forward, parse_method("dynamic")

    def growing(tokens, positions=None, cache=None, **options):
        past = 0 if cache is None else cache.length
        lengths = {"context": past + tokens.shape[1], "train_length": TRAIN_LENGTH}
        with torch.inference_mode(False):  # it writes into buffers
            model.set_scaling(**dynamic.arguments(model.config, **lengths))
        return forward(tokens, positions, cache, **options)

    model.forward = growing
    figures = measure_decode(model.eval(), PASSAGES, target_tokens=6)
    assert figures["difference"] > 0.05


def test_a_model_that_takes_no_cache_says_so():
    model = tiny()

    def new_cache(*_):
        raise ValueError("keeps no keys")

    model.new_cache = new_cache
    figures, _ = decode(model)
    assert figures["possible"] is False and figures["why"] == "keeps no keys"
    assert figures["decoded"] is None and np.isfinite(figures["full"])
