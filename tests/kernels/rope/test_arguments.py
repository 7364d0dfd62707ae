"""Bad arguments are refused in the user's terms; backends are found; imports stay light."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import kernels
from compiled import compiled_for_a_gpu, constant
from kernels import (
    BACKENDS,
    inverse_frequencies,
    resolve_backend,
    rope_qkv,
    rope_triton,
    rope_triton_,
    rotate,
)
from oracle import DEVICES, ROPES

ROOT = Path(__file__).parents[3]
Q, K = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 2, 8)
PHASES = torch.ones(4, dtype=torch.int64)
INV_FREQ = inverse_frequencies(8)
OFFSETS, CU_SEQLENS = torch.tensor([5, 9]), torch.tensor([0, 1, 3])
QKV, WEIGHT = torch.randn(2, 3, (4 + 2 * 2) * 8), torch.ones(8)  # 4 heads of q, 2 of k and v

BAD_ARGUMENTS = [
    (Q[0], K, {}, r"q has shape \(3, 4, 8\): must be \(batch, seq_len, heads, head_dim\)"),
    (Q, K[None], {}, r"k has shape \(1, 2, 3, 2, 8\): must be"),
    ([1.0], K, {}, "q is list: must be a tensor"),
    (Q.int(), K.int(), {}, r"q is torch\.int32: must be float64, float32, float16 or bfloat16"),
    (Q, K.double(), {}, r"q is torch\.float32 and k is torch\.float64: must be of one dtype"),
    (Q, K[:1], {}, "batch is 2 in q and 1 in k"),
    (Q, K[:, :2], {}, "seq_len is 3 in q and 2 in k"),
    (Q, K[..., :6], {}, "head_dim is 8 in q and 6 in k"),
    (Q[..., :7], K[..., :7], {}, "head_dim=7: must be even and positive"),
    (Q[..., :0], K[..., :0], {}, "head_dim=0: must be even and positive"),
    (torch.ones(1, 1, 1, 514), torch.ones(1, 1, 1, 514), {}, "head_dim=514: at most 512"),
    (Q, K, {"seq_len": 4}, "seq_len=4: must be that of q and k, 3"),
    (Q, K, {"theta": 0.0}, r"theta=0\.0: must be a positive finite number"),
    (Q, K, {"theta": float("nan")}, "theta=nan: must be a positive finite number"),
    (Q, K, {"positions": [0, 1, 2]}, "positions is list: must be a tensor or None"),
    (Q, K, {"positions": torch.arange(3.0)}, r"positions is torch\.float32: must be int32 or"),
    (Q, K, {"positions": torch.arange(4)}, r"positions has shape \(4,\): must be \(seq_len,\) = "),
    (Q, K, {"positions": torch.ones(3, 2).long()}, r"or \(batch, seq_len\) = \(2, 3\)"),
    (Q, K, {"offsets": 5}, "offsets is int: must be a tensor or None"),
    (Q, K, {"offsets": OFFSETS.short()}, r"offsets is torch\.int16: must be int32 or int64"),
    (Q, K, {"offsets": torch.arange(3)}, r"offsets has shape \(3,\): must be \(batch,\) = \(2,\)"),
    (Q, K, {"offsets": torch.tensor(1)}, r"offsets has shape \(\): must be \(batch,\) = \(2,\)"),
    (Q, K, {"offsets": OFFSETS.to("meta")}, "offsets is on meta: must be on q's device, cpu"),
    (Q[:1], K[:1], {"cu_seqlens": [0, 3]}, "cu_seqlens is list: must be a tensor or None"),
    (Q[:1], K[:1], {"cu_seqlens": CU_SEQLENS.float()}, r"cu_seqlens is torch\.float32: must be"),
    (Q[:1], K[:1], {"cu_seqlens": CU_SEQLENS[:1]}, r"shape \(1,\): must be \(segments \+ 1,\)"),
    (Q[:1], K[:1], {"cu_seqlens": CU_SEQLENS[None]}, r"cu_seqlens has shape \(1, 3\): must be"),
    (Q[:1], K[:1], {"cu_seqlens": CU_SEQLENS.to("meta")}, "cu_seqlens is on meta: must be on q's"),
    (Q, K, {"cu_seqlens": CU_SEQLENS}, "batch is 2 with cu_seqlens given: must be 1"),
    (Q, K, {"positions": CU_SEQLENS, "offsets": OFFSETS}, "positions and offsets are both given"),
    (Q, K, {"positions": OFFSETS, "cu_seqlens": OFFSETS}, "positions and cu_seqlens are both"),
    (Q, K, {"offsets": OFFSETS, "cu_seqlens": OFFSETS}, "offsets and cu_seqlens are both given"),
    (Q, K, {"inv_freq": INV_FREQ.float()}, r"inv_freq is torch\.float32: must be torch\.float64"),
    (Q, K, {"inv_freq": INV_FREQ.tolist()}, "inv_freq is list: must be a tensor"),
    (Q, K, {"inv_freq": INV_FREQ[None]}, r"inv_freq has shape \(1, 4\): must be"),
    (Q, K, {"inv_freq": INV_FREQ[:0]}, r"inv_freq has shape \(0,\): must be"),
    (Q, K, {"inv_freq": inverse_frequencies(10)}, "rotary_dim=10: must be at most head_dim=8"),
    (Q, K, {"phases": INV_FREQ}, r"phases is torch\.float64: must be torch\.int64"),
    (Q, K, {"phases": PHASES[None]}, r"phases has shape \(1, 4\): must be"),
    (Q, K, {"phases": PHASES, "inv_freq": INV_FREQ}, "inv_freq and phases are both given"),
    (Q, K, {"phases": PHASES, "theta": 5.0}, r"theta=5\.0 with phases given"),
    (Q, K, {"inv_freq": INV_FREQ, "theta": 5.0}, r"theta=5\.0 with inv_freq given"),
    (Q, K, {"theta": 10**400}, "theta=10+: must be a positive finite number"),
    (Q, K, {"attention_factor": 10**30}, "attention_factor=10+: must be a finite number"),
    (Q, K, {"interleaved": [1]}, r"interleaved=\[1\]: must be True or False"),
    (Q, K, {"attention_factor": float("inf")}, "attention_factor=inf: must be a finite number"),
]


# What rope_qkv refuses beside these: its three arguments, its options, the rule.
BAD_PACKED_ARGUMENTS = [
    ((QKV.numpy(), 4, 2), {}, "qkv is ndarray: must be a tensor"),
    ((QKV[0], 4, 2), {}, r"qkv has shape \(3, 64\): must be \(batch, seq_len, \(n_heads \+ 2"),
    ((Q, 4, 2), {}, r"qkv has shape \(2, 3, 4, 8\): must be \(batch, seq_len, \(n_heads"),
    ((QKV.int(), 4, 2), {}, r"qkv is torch\.int32: must be float64, float32, float16 or bfloat16"),
    ((QKV, 0, 2), {}, "n_heads=0: must be a positive integer"),
    ((QKV, 4.0, 2), {}, r"n_heads=4\.0: must be a positive integer"),
    ((QKV, 4, -2), {}, "n_kv_heads=-2: must be a positive integer"),
    ((QKV, 4, 3), {}, r"\(2, 3, 64\): its last dimension must be a multiple of .* = 10"),
    ((QKV[..., :56], 4, 2), {}, "head_dim=7: must be even and positive"),
    ((QKV[..., :0], 4, 2), {}, "head_dim=0: must be even and positive"),
    ((QKV, 4, 2), {"q_norm": [1.0] * 8}, "q_norm is list: must be a tensor"),
    ((QKV, 4, 2), {"k_norm": WEIGHT.int()}, r"k_norm is torch\.int32: must be float64, float32,"),
    (
        (QKV, 4, 2),
        {"q_norm": WEIGHT[:6]},
        r"q_norm has shape \(6,\): must be \(head_dim,\) = \(8,\)",
    ),
    ((QKV, 4, 2), {"k_norm": WEIGHT[None]}, r"k_norm has shape \(1, 8\): must be \(head_dim\)"),
    ((QKV, 4, 2), {"k_norm": WEIGHT.to("meta")}, "k_norm is on meta"),
    ((QKV, 4, 2), {"eps": -1e-6}, "eps=-1e-06: must be a finite number, at least 0"),
    ((QKV, 4, 2), {"eps": float("nan")}, "eps=nan: must be a finite number, at least 0"),
    ((QKV, 4, 2), {"eps": torch.ones(())}, r"eps=1\.0: must be a finite number, at least 0"),
]


@pytest.mark.parametrize("rope", [*ROPES, rope_triton_])
@pytest.mark.parametrize("q, k, options, message", BAD_ARGUMENTS)
def test_bad_arguments(rope, q, k, options, message):
    with pytest.raises(ValueError, match=message):
        rope(q, k, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments, options, message", BAD_PACKED_ARGUMENTS)
def test_bad_arguments_of_the_packed_operator(backend, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        rope_qkv(*arguments, **options, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_packed_operator_refuses_what_the_rotation_refuses(backend):
    for q, k, options, message in BAD_ARGUMENTS:
        if options and q.shape[1:] == Q.shape[1:] and k.shape[1:] == K.shape[1:]:
            with pytest.raises(ValueError, match=message):
                rope_qkv(QKV[: q.shape[0]], 4, 2, **options, backend=backend)


@pytest.mark.parametrize("rope", ROPES)
def test_more_rotated_components_than_512(rope):
    x = torch.ones(1, 1, 1, 600)
    with pytest.raises(ValueError, match="rotary_dim=514: must be at most 512"):
        rope(x, x, phases=torch.ones(257, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.parametrize("rope", ROPES)
def test_mixed_devices(rope):
    with pytest.raises(ValueError, match="q is on cuda:0 and k is on cpu: must be on one device"):
        rope(Q.cuda(), K)
    for options in (
        {"positions": torch.arange(3)},
        {"offsets": OFFSETS[:1]},
        {"cu_seqlens": CU_SEQLENS},
    ):
        with pytest.raises(ValueError, match="is on cpu: must be on q's device, cuda:0"):
            rope(Q[:1].cuda(), K[:1].cuda(), **options)
    with pytest.raises(ValueError, match="k_norm is on cpu: must be on qkv's device, cuda:0"):
        rope_qkv(QKV.cuda(), 4, 2, k_norm=WEIGHT)


def calls_on_the_gpu() -> list[Callable[[], object]]:
    """One of each kind, on tensors that are there."""
    q, k, qkv = Q[:1].cuda(), K[:1].cuda(), QKV[:1].cuda().requires_grad_()
    inv_freq, weight = INV_FREQ.cuda(), WEIGHT.cuda()
    placements = [
        {},
        {"positions": torch.arange(3).cuda(), "inv_freq": inv_freq},
        {"offsets": OFFSETS[:1].cuda()},
        {"cu_seqlens": CU_SEQLENS.cuda()},
    ]
    calls = [
        partial(rope, q, k, **placement)
        for rope in (*ROPES, rope_triton_)
        for placement in placements
    ]
    for backend in BACKENDS:
        options = {"offsets": OFFSETS[:1].cuda(), "q_norm": weight, "backend": backend}
        calls.append(lambda options=options: rope_qkv(qkv, 4, 2, **options)[0].sum().backward())
    return calls


@pytest.mark.gpu
def test_a_call_does_not_wait_for_the_gpu():
    for call in calls_on_the_gpu():
        for mode in ("default", "error"):  # the first call compiles the kernel and copies tables
            torch.cuda.set_sync_debug_mode(mode)
            try:
                call()
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_rotate_is_the_backend_of_that_name(backend, device):
    q, k = Q.to(device), K.to(device)
    function = getattr(kernels, f"rope_{backend}")
    for options in ({}, {"theta": 50.0, "interleaved": False}):
        for y, expected in zip(
            rotate(q, k, backend=backend, **options), function(q, k, **options), strict=True
        ):
            assert torch.equal(y, expected)


def test_auto_and_unknown_backends():
    assert resolve_backend("auto", "cpu") == "pytorch"
    assert resolve_backend("auto", torch.device("cuda", 0)) == "triton"
    assert [resolve_backend(name, "cpu") for name in BACKENDS] == list(BACKENDS)
    rule = "backend=trition: must be one of auto, triton, pytorch; did you mean triton?"
    for call in (
        lambda: resolve_backend("trition", "cpu"),
        lambda: rotate(Q, K, backend="trition"),
        lambda: rope_qkv(QKV, 4, 2, backend="trition"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == rule


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


@pytest.mark.slow
def test_without_triton():
    output = python(
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.partition('.')[0] == 'triton': raise ModuleNotFoundError(name)\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'triton' else real(n, *a)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import torch, kernels\n"
        "x = torch.randn(1, 2, 1, 4)\n"
        "kernels.rope_pytorch(x, x)\n"
        "qkv = torch.randn(1, 2, 12)\n"
        "kernels.rope_qkv(qkv, 1, 1, q_norm=torch.ones(4))\n"
        "print(kernels.resolve_backend('auto', 'cuda'))\n"
        "for call in (lambda: kernels.rope_triton(x, x),\n"
        "             lambda: kernels.rope_qkv(qkv, 1, 1, backend='triton'),\n"
        "             lambda: kernels.resolve_backend('triton', 'cpu')):\n"
        "    try: call()\n"
        "    except ValueError as error: print(error)\n"
    )
    assert output.splitlines() == [
        "pytorch",
        "rope_triton: triton is not installed here; rope_pytorch works",
        "backend=triton: triton is not installed here; pytorch works",
        "backend=triton: triton is not installed here; pytorch works",
    ]


def test_triton_is_imported_by_the_first_rotation_only_and_says_so_in_one_line():
    output = python(
        "import sys, torch, kernels\n"
        "assert not any(name.partition('.')[0] == 'triton' for name in sys.modules)\n"
        "x = torch.randn(1, 2, 1, 4)\n"
        "kernels.rope_pytorch(x, x); kernels.resolve_backend('triton', 'cpu')\n"
        "assert not any(name.partition('.')[0] == 'triton' for name in sys.modules)\n"
        "kernels.rope_triton(x, x); kernels.rope_triton(x, x)\n"
    )
    assert len(output.splitlines()) == 1 and "interpreter" in output


@pytest.mark.slow  # other tests import both in their own process
def test_transformers_imports_beside_this_package():
    """Hugging Face has a package called kernels too, and transformers looks for it."""
    python("import kernels, transformers; from transformers import LlamaConfig, LlamaForCausalLM")


def test_the_kernel_of_few_tokens_compiles_for_a_gpu(launches, monkeypatch):
    """The one that a GPU decodes with, which a CPU never chooses by itself."""
    from kernels.rope.triton import plan, sizes

    plan._rotate_launch.cache_clear()
    monkeypatch.setattr(
        plan,
        "rotation_tile",
        lambda n, heads, head, *_: sizes.rotation_tile(n, heads, head, 2, False, False),
    )
    rope_triton(Q[:, :1], K[:, :1], offsets=OFFSETS)
    plan._rotate_launch.cache_clear()
    ((launch, tensors),) = launches
    assert launch.grid[1] > 1
    ptx = compiled_for_a_gpu(launch, tensors, "bf16")
    assert ".target sm_90" in ptx and "sin.approx" in ptx


@pytest.mark.parametrize("kv_heads", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_the_kernels_of_many_tokens_compile_for_a_gpu(launches, monkeypatch, kv_heads):
    """Those that a GPU trains with: a program for each of q, k and v, or, where k has few heads,
    one for q and k together, and backward one for all three."""
    from kernels.rope.triton import plan, sizes

    def tile(n_tokens, heads, head, *_):
        return sizes.rotation_tile(2**20, heads, head, 2, False, False)

    plan._rotate_launch.cache_clear()
    monkeypatch.setattr(plan, "rotation_tile", tile)
    qkv = torch.randn(2, 3, (4 + 2 * kv_heads) * 256, requires_grad=True)
    q, k, v = rope_qkv(qkv, 4, kv_heads, backend="triton")
    results = [q, k, torch.autograd.grad((q, k, v), qkv, (q, k, v))[0]]
    q, k, v = rope_qkv(qkv, 4, kv_heads, backend="pytorch")
    expected = [q, k, torch.autograd.grad((q, k, v), qkv, (q, k, v))[0]]
    plan._rotate_launch.cache_clear()
    torch.testing.assert_close(results, expected, rtol=0, atol=2e-6)
    assert [launch.grid[1] for launch, _ in launches] == ([1, 1] if kv_heads == 1 else [2, 3])
    assert [constant(launch, "TAKES_Q_WITH_K") for launch, _ in launches] == [kv_heads == 1, False]
    for launch, tensors in launches:
        assert ".target sm_90" in compiled_for_a_gpu(launch, tensors, "bf16")


@pytest.mark.parametrize(
    "data, dtype",
    [("bf16", torch.float32), pytest.param("fp64", torch.float64, marks=pytest.mark.slow)],
)
def test_the_kernels_compile_for_a_gpu_on_a_machine_without_one(launches, data, dtype):
    """After the interpreter ran, too: it patches triton.language, and has to put it back."""
    q, k, qkv = Q.to(dtype), K.to(dtype), QKV[:1].to(dtype).requires_grad_()
    rope_triton(q, k, offsets=OFFSETS)
    rope_triton_(q, k, positions=CU_SEQLENS, interleaved=False)
    outputs = rope_qkv(qkv, 4, 2, cu_seqlens=CU_SEQLENS, q_norm=WEIGHT.to(dtype), backend="triton")
    sum(y.sum() for y in outputs).backward()
    assert len(launches) == 4
    kernels = [launch.kernel.__name__ for launch, _ in launches]
    assert kernels == ["rotate_kernel"] * 2 + ["norm_rotate_kernel", "norm_backward_kernel"]
    for launch, tensors in launches:
        assert ".target sm_90" in compiled_for_a_gpu(launch, tensors, data)
