"""Bad arguments are refused in the user's terms; backends are found; imports stay light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracle import DEVICES, ROPES

import kernels
from kernels import BACKENDS, inverse_frequencies, resolve_backend, rotate

ROOT = Path(__file__).parent.parent
Q, K = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 2, 8)
PHASES = torch.ones(4, dtype=torch.int64)
INV_FREQ = inverse_frequencies(8)

BAD_ARGUMENTS = [
    (Q[0], K, {}, r"q has shape \(3, 4, 8\): must be \(batch, seq_len, heads, head_dim\)"),
    (Q, K[None], {}, r"k has shape \(1, 2, 3, 2, 8\): must be"),
    ([1.0], K, {}, "q is list: must be a tensor"),
    (Q.int(), K.int(), {}, r"q is torch\.int32: must be float64, float32, float16 or bfloat16"),
    (Q, K.double(), {}, r"q is torch\.float32 and k is torch\.float64: must be of one dtype"),
    (Q.to("meta"), K.to("meta"), {}, "q is on meta: must be on a CPU or a CUDA device"),
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
    (Q, K, {"attention_factor": float("inf")}, "attention_factor=inf: must be a finite number"),
]


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("q, k, options, message", BAD_ARGUMENTS)
def test_bad_arguments(rope, q, k, options, message):
    with pytest.raises(ValueError, match=message):
        rope(q, k, **options)


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
    with pytest.raises(ValueError, match="positions is on cpu: must be on q's device, cuda:0"):
        rope(Q.cuda(), K.cuda(), positions=torch.arange(3))


@pytest.mark.gpu
@pytest.mark.parametrize("rope", ROPES)
def test_a_call_does_not_wait_for_the_gpu(rope):
    q, k, positions = Q.cuda(), K.cuda(), torch.arange(3).cuda()
    inv_freq = INV_FREQ.cuda()
    for mode in ("default", "error"):  # the first call compiles the kernel and copies tables
        torch.cuda.set_sync_debug_mode(mode)
        try:
            rope(q, k, positions=positions, inv_freq=inv_freq)
            rope(q, k)
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
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == rule


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


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
        "print(kernels.resolve_backend('auto', 'cuda'))\n"
        "for call in (lambda: kernels.rope_triton(x, x),\n"
        "             lambda: kernels.resolve_backend('triton', 'cpu')):\n"
        "    try: call()\n"
        "    except ValueError as error: print(error)\n"
    )
    assert output.splitlines() == [
        "pytorch",
        "rope_triton: triton is not installed here; rope_pytorch works",
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


def test_transformers_imports_beside_this_package():
    """Hugging Face has a package called kernels too, and transformers looks for it."""
    python("import kernels, transformers; from transformers import LlamaConfig, LlamaForCausalLM")


@pytest.mark.parametrize("dtype", ["bf16", "fp64"])
def test_the_kernel_compiles_for_a_gpu_on_a_machine_without_one(dtype):
    """After the interpreter ran, too: it patches triton.language, and has to put it back."""
    import triton
    from triton.backends.compiler import GPUTarget

    kernels.rope_triton(Q, K)
    from kernels.triton_kernel import rotate_tiles

    pair_of_strides = (("i64",) * 4,) * 2
    signature = {
        "inputs": (f"*{dtype}",) * 2,
        "input_strides": pair_of_strides,
        "outputs": (f"*{dtype}",) * 2,
        "output_strides": pair_of_strides,
        "phases_ptr": "*i64",
        "positions_ptr": "*i64",
        **dict.fromkeys(("positions_stride_b", "positions_stride_s"), "i64"),
        **dict.fromkeys(("n_tokens", "seq_len"), "i32"),
        **dict.fromkeys(("cos_factor", "sin_factor"), "fp64"),
    }
    constants = [(8, 2), 10, 6, True, 16, (4, 1), 4, 4, dtype == "fp64", False]
    kernel = triton.jit(rotate_tiles)
    names = kernel.arg_names[len(signature) :]
    compiled = triton.compile(
        triton.compiler.ASTSource(
            kernel,
            signature | dict.fromkeys(names, "constexpr"),
            {(kernel.arg_names.index(n),): c for n, c in zip(names, constants, strict=True)},
        ),
        target=GPUTarget("cuda", 90, 32),
    )
    assert ".target sm_90" in compiled.asm["ptx"]
