"""The clock of the benchmark on a GPU: what a candidate leaves in the cache is not for others."""

import pytest
import torch

from benchmarks.clocks import GpuClock
from benchmarks.timing import measure

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

pytestmark = pytest.mark.gpu


def copy_kernel(x, out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i, eviction_policy="evict_last"))


def test_what_was_to_be_evicted_last_does_not_outlive_the_flush() -> None:
    kept_copy = triton.jit(copy_kernel)
    clock = GpuClock(torch.device("cuda"))
    if torch.version.hip or torch.cuda.get_device_properties(0).L2_cache_size < 2**25:
        pytest.skip("no hints, or no room in the cache for what is copied here")
    x = torch.randn(2**22, device="cuda")
    y, z = torch.empty_like(x), torch.empty_like(x)

    def copy_time() -> float:
        copies = {
            "copy": lambda: y.copy_(x),
            "kept": lambda: kept_copy[(x.numel() // 1024,)](x, z, 1024),
        }
        makers = {name: lambda copy=copy: copy for name, copy in copies.items()}
        timings, _ = measure(makers, clock, 40, 0, on_step=lambda name: None)
        return timings["copy"].summary()["median_us"]

    right = copy_time()
    clock.forget_hints = lambda: None
    assert copy_time() < 0.95 * right  # what is to be prevented: x is found in the cache
