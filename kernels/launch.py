"""Launching a Triton kernel with as little work on the host as there can be.

A kernel here is a plain function. `triton.jit` compiles it for CUDA tensors; Triton's interpreter
runs the very same function on CPU tensors. A `Launch` is a kernel with everything settled but the
tensors. `triton.jit` looks at every argument in every call, to find the compiled kernel that fits;
a Launch does that once, keeps the kernel, and then hands it addresses and nothing else.
"""

from __future__ import annotations

import functools
import logging
import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

if TYPE_CHECKING:
    from triton.runtime.interpreter import InterpretedFunction

# What Triton calls aligned: a compiled kernel may read 16 bytes at a time from such an address.
ALIGNMENT = 16
# The interpreter patches triton.language, for every thread.
_LOCK = threading.Lock()
STREAM = 3  # its place among the arguments of a compiled kernel's `run`
# No multiplication is fused with an addition: which ones would be depends on layouts, and so would
# the last bit of a result.
ARITHMETIC = {"enable_fp_fusion": False}
# Parameters of kernels that vary from call to call: what they are divisible by, or that they are
# 1, is not worth a compilation.
LENGTHS = ("n_tokens", "seq_len", "n_boundaries", "search_steps", "n_blocks")


class Launch:
    """A kernel's launch of one grid with one set of numbers, again and again.

    Arguments:
        kernel: a plain function whose first parameters are tensors, and then `numbers`.
        grid: programs along the kernel's two axes.
        numbers: the rest of its arguments: integers, floats, tuples of these, constants.
        device: where the tensors are.
        num_warps: warps of a program (of 32 threads each); nothing to the interpreter.
        options: of the compiler, beside `ARITHMETIC` or in its place.
    """

    def __init__(
        self,
        kernel: Callable[..., None],
        grid: tuple[int, int],
        numbers: tuple[object, ...],
        device: torch.device,
        num_warps: int,
        **options: object,
    ) -> None:
        self.kernel, self.grid, self.numbers = kernel, grid, numbers
        self.device, self.index = device, device.index
        self.options = {"num_warps": num_warps, **ARITHMETIC, **options}
        self.compiled: triton.compiler.CompiledKernel | None = None  # for aligned tensors

    def __call__(self, *tensors: Tensor | None) -> None:
        """Launch it on the current stream of the tensors' device; None where there is no tensor.

        A tensor that is None in one call is so in all.
        """
        if self.compiled is None or self.index != torch._C._cuda_getDevice():
            self._launch_anew(tensors)
            return
        arguments, bits = self.arguments.copy(), 0
        for slot, i in self.given:
            arguments[slot] = address = tensors[i].data_ptr()  # type: ignore[union-attr]
            bits |= address
        watched = triton.knobs.runtime.launch_enter_hook.calls  # by a profiler
        if bits % ALIGNMENT or watched:
            self._launch_anew(tensors)
            return
        arguments[STREAM] = torch._C._cuda_getCurrentRawStream(self.index)
        self.run(*arguments)

    def _launch_anew(self, tensors: tuple[Tensor | None, ...]) -> None:
        """The launch by Triton's own means, for the first call and for unusual ones."""
        with _LOCK:
            self._launch_by_triton(tensors)

    def _launch_by_triton(self, tensors: tuple[Tensor | None, ...]) -> None:
        if self.device.type == "cpu":
            import numpy as np  # only Triton's interpreter needs it

            with np.errstate(all="ignore"):  # NaN and Inf are data here, as they are on a GPU
                interpreted(self.kernel)[self.grid](*tensors, *self.numbers)
            return
        with torch.cuda.device(self.device):
            arguments = (*tensors, *self.numbers)
            compiled = _jitted(self.kernel)[self.grid](*arguments, **self.options)
        given = {i: tensor for i, tensor in enumerate(tensors) if tensor is not None}
        if all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in given.values()):
            self._keep(compiled, len(tensors), list(given))

    def _keep(self, compiled: triton.compiler.CompiledKernel, count: int, given: list[int]) -> None:
        """Have all arguments of `compiled.run` ready but the stream and the addresses."""
        fixed = (compiled.function, compiled.packed_metadata, None, None, None)
        before = [*self.grid, 1, None, *fixed]
        self.arguments = [*before, *[None] * count, *self.numbers]
        self.given = [(len(before) + i, i) for i in given]
        self.run = compiled.run
        self.compiled = compiled  # the last: whoever sees it uses all the others


@functools.cache
def _jitted(kernel: Callable[..., None]) -> triton.runtime.JITFunction:
    return triton.jit(kernel, do_not_specialize=[n for n in LENGTHS if n in _parameters(kernel)])


def _parameters(function: Callable[..., None]) -> tuple[str, ...]:
    return function.__code__.co_varnames[: function.__code__.co_argcount]


@functools.cache
def interpreted(kernel: Callable[..., None]) -> InterpretedFunction:
    """The kernel for Triton's interpreter, which says once that it is in use."""
    from triton.runtime.interpreter import InterpretedFunction

    _warn()
    assert isinstance(kernel, types.FunctionType)
    return InterpretedFunction(_plain(kernel))


def _plain(function: types.FunctionType) -> types.FunctionType:
    """The same code, whose helpers are plain functions too: compiled ones cannot be called."""
    if function.__module__.startswith("triton."):
        return function  # the interpreter knows what Triton's own helpers call
    scope = dict(function.__globals__)
    for name in function.__code__.co_names:
        if isinstance(scope.get(name), triton.runtime.KernelInterface):
            scope[name] = _plain(scope[name].fn)
    name, defaults = function.__name__, function.__defaults__
    return types.FunctionType(function.__code__, scope, name, defaults)


@functools.cache
def _warn() -> None:
    logging.getLogger(__name__).warning(
        "Triton kernels on CPU tensors run in Triton's interpreter, far slower than PyTorch"
    )
