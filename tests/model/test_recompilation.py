"""torch.compile of windows and ALiBi: a graph or two for all lengths, not one for each."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from model.window_cores import blocks_of
from small_models import small_model

LENGTHS = range(9, 120, 10)  # 12 of them; torch gives up at the ninth graph


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [{"window": 6}, {"position": "alibi", "n_kv_heads": 2}],
)
def test_twelve_lengths_compile_twice(variant):
    torch._dynamo.reset()
    eager = small_model(n_layers=1, **variant)
    compiled, counter = copy.deepcopy(eager), CompileCounterWithBackend("eager")
    compiled.compile(fullgraph=True, backend=counter)
    for length in LENGTHS:
        x = torch.arange(length)[None] % 32
        torch.testing.assert_close(compiled(x), eager(x))
    assert counter.frame_count == 2  # the first length, then any


@pytest.mark.slow
@pytest.mark.parametrize("variant", [{"window": 6}, {"position": "alibi"}])
def test_long_inputs_too_with_gradients(variant):
    torch._dynamo.reset()
    eager = small_model(**variant)
    compiled, counter = copy.deepcopy(eager), CompileCounterWithBackend("aot_eager")
    compiled.compile(fullgraph=True, backend=counter)
    for length in range(130, 1900, 150):
        x = torch.arange(length)[None] % 32
        logits = compiled(x)
        torch.testing.assert_close(logits, eager(x))
        logits.sum().backward()
    assert counter.frame_count <= 4  # numbers of blocks are powers of 4


@pytest.mark.parametrize("size", [1, 128, 512])
def test_blocks_cover_all_queries_once(size):
    for n in (1, 2, 5, 127, 128, 129, 512, 513, 2048, 2049, 5000):
        blocks = blocks_of(n, size)
        assert [i for block in blocks for i in range(n)[block]] == list(range(n))
        assert all(0 < block.stop - block.start <= max(size, 1) for block in blocks)
