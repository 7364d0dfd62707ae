"""The parts of the training room, each by itself."""

import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo.testing
from omegaconf import OmegaConf
from torch import nn

import training.prepare
from commands import ROOT
from training.callbacks import throughput
from training.callbacks.checkpoints import BestAndLast
from training.callbacks.throughput import WARMUP_STEPS, StepTimer, peak_flops
from training.module import LanguageModule, mean_nll
from training.optimizers import OptimizerConfig, build_optimizer, lr_factor

OPTIMIZER = OptimizerConfig(**OmegaConf.load(ROOT / "configs/optimizer/adamw.yaml"))


def test_lightning_says_little() -> None:
    assert training.prepare and logging.getLogger("lightning.pytorch").level == logging.WARNING


def test_learning_rate_warms_up_then_falls_to_its_last_fraction() -> None:
    factors = [lr_factor(step, 100, 10, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0 and max(factors) == 1.0
    assert factors[55] == pytest.approx(0.55)  # half-way down the cosine
    assert factors[100] == pytest.approx(0.1)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_the_loss_is_compiled_with_the_network_but_in_no_cuda_graph(monkeypatch) -> None:
    """Its value is read after the next step has begun, when a replay would have overwritten it."""
    net, compiled = nn.Embedding(5, 5), []
    module = LanguageModule(
        net,
        optimizer=OPTIMIZER,
        max_steps=1,
        token_bytes=torch.ones(5),
        identity={},
        seed=0,
    )
    keys = list(module.state_dict())
    backend = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    original = torch.compile

    def compile_and_tell(function, **options):
        compiled.append((function, options.pop("mode", None)))
        return original(function, **options, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_and_tell)
    modes = []
    monkeypatch.setattr(net, "compile", lambda **options: modes.append(options["mode"]))
    module.compile_training("reduce-overhead")
    inputs, targets = torch.arange(5)[None], torch.tensor([[1, 2, -100, 4, 0]])
    loss = module.training_step((inputs, targets), 0)
    assert torch.allclose(loss, mean_nll(net(inputs), targets)) and backend.frame_count == 1
    assert modes == ["reduce-overhead"] and compiled == [(mean_nll, None)]
    assert list(module.state_dict()) == keys


def test_only_matrices_decay() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3), nn.Embedding(5, 2))
    optimizer, _ = build_optimizer(net, replace(OPTIMIZER, weight_decay=0.5), max_steps=10)
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decays) == len(list(net.parameters()))
    for parameter in net.parameters():
        assert decays[id(parameter)] == (0.5 if parameter.ndim == 2 else 0.0)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA H20", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("GRID A100-10C", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("Some other card", None),
    ],
)
def test_peak_is_the_cards_own_or_none(name: str, teraflops: float | None, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    expected = None if teraflops is None else teraflops * 1e12
    assert peak_flops(torch.device("cuda")) == expected
    assert peak_flops(torch.device("cpu")) is None


def test_timer_leaves_out_the_warmup_and_the_pauses(monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now)
    timer = StepTimer()
    for step in range(1, 21):
        timer.resume()
        now += 100.0 if step <= WARMUP_STEPS else 2.0
        if timer.count_step() or step == 15:
            timer.pause()
            now += 1000.0  # validation
    timer.pause()
    assert (timer.steps, timer.seconds) == (10, 20.0)
    assert timer.interval() == (20, 10 * 100.0 + 20.0)
    assert timer.interval() == (0, 0.0)


def test_best_is_the_lowest_loss_and_never_nan(tmp_path) -> None:
    saved: list[str] = []
    callback = BestAndLast(tmp_path)
    for step, loss in enumerate([3.0, 2.0, math.nan, 2.5], 1):
        trainer = SimpleNamespace(
            sanity_checking=False,
            state=SimpleNamespace(fn="fit"),
            callback_metrics={"val/loss": loss, "val/bpb": loss * 2},
            global_step=step,
            save_checkpoint=lambda path, weights_only: saved.append(path.name),
        )
        callback.on_validation_end(trainer, None)
    assert saved == ["best.ckpt", "last.ckpt"] * 2 + ["last.ckpt"] * 2
    assert callback.state_dict() == {"loss": 2.0, "bpb": 4.0, "step": 2}


def test_a_beta_may_be_typed_as_an_integer() -> None:
    config = replace(OPTIMIZER, beta1=0)
    optimizer, _ = build_optimizer(nn.Linear(4, 4), config, max_steps=5)
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.95)
