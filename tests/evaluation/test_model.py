"""The extrapolation measurement of a real, tiny Transformer."""

import math

import pytest
import torch
import torch.nn.functional as F

from evaluation.passages import choose_passages
from model import ScalingConfig
from tiny_extrapolation import DOCUMENT, TRAIN_LENGTH, measure, tiny


def nll_of_full_windows(model, context, longest=8 * TRAIN_LENGTH, target_tokens=8):
    """The same figure by another road: one passage at a time, with autograd on."""
    losses = []
    for passage in choose_passages([DOCUMENT], longest, 48):
        window = torch.from_numpy(passage[-context - 1 :])
        logits = model.eval()(window[None, :-1])[0]
        losses += F.cross_entropy(logits, window[1:], reduction="none")[-target_tokens:].tolist()
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("context", [16, 32, 128])
def test_none_is_the_model_and_a_method_is_the_model_built_with_it(context):
    result = measure(tiny())
    column = result.lengths.index(context)
    expected = nll_of_full_windows(tiny(), context)
    assert result.methods["none"]["nll"][column] == pytest.approx(expected, rel=1e-5)
    for method in ("linear", "ntk", "yarn"):
        scaling = ScalingConfig(method, factor=context / TRAIN_LENGTH, train_length=TRAIN_LENGTH)
        expected = nll_of_full_windows(tiny(scaling), context)
        assert result.methods[method]["nll"][column] == pytest.approx(expected, rel=1e-5)


def test_methods_agree_at_the_training_length_and_differ_beyond_it():
    nll = {name: values["nll"] for name, values in measure(tiny()).methods.items()}
    assert len({losses[0] for losses in nll.values()}) == 1
    for column in (1, 2, 3):
        assert len({round(losses[column], 4) for losses in nll.values()}) == 4


@pytest.mark.parametrize(
    "scaling",
    [None, ScalingConfig("yarn", factor=4.0, train_length=16, options={"beta_fast": 8.0})],
)
def test_the_model_computes_as_before_and_still_trains(scaling):
    model = tiny(scaling)
    tokens = torch.arange(40)[None]
    before, buffers = model(tokens), {name: b.clone() for name, b in model.named_buffers()}
    measure(model)
    after = model(tokens)
    assert model.training and torch.equal(before, after)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]) and not buffer.is_inference()
    after.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_model_without_positions_is_measured_as_it_is():
    result = measure(tiny(position="nope"))
    assert None not in result.methods["none"]["bpb"]
    assert result.methods["yarn"]["bpb"] == [None] * 4 and len(result.reasons) == 3


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16_close_to_the_cpu_and_out_of_memory_is_a_reason():
    on_cpu, on_gpu = measure(tiny()), measure(tiny().cuda())
    for name, values in on_cpu.methods.items():
        assert on_gpu.methods[name]["nll"] == pytest.approx(values["nll"], rel=5e-3)
    assert on_gpu.protocol["precision"] == "bfloat16 autocast on cuda"

    model = tiny().cuda()

    def hog(_, inputs):
        if inputs[0].shape[1] > 32:
            torch.empty(1 << 50, dtype=torch.uint8, device="cuda")

    model.register_forward_pre_hook(hog)
    result = measure(model)
    assert result.methods["yarn"]["bpb"][1] is not None
    assert result.reasons["yarn"] == {"64": "out of GPU memory", "128": "out of GPU memory"}
