"""Compiles a kernel for a GPU on a machine that has none."""

from __future__ import annotations

import torch
from torch import Tensor


def constant(launch, name: str) -> object:
    """What the parameter of that name is in a launch; it is none of the tensors."""
    parameters = launch.kernel.__code__.co_varnames[: launch.kernel.__code__.co_argcount]
    return launch.numbers[parameters.index(name) - len(parameters)]


def compiled_for_a_gpu(launch, tensors: tuple[Tensor | None, ...], data: str) -> str:
    """PTX of the kernel that was launched, for data of that type (float32 in `tensors`)."""
    import triton
    from triton.backends.compiler import GPUTarget

    from kernels.rope.triton.sizes import Sine

    types = {torch.int32: "*i32", torch.int64: "*i64", torch.float32: f"*{data}"}

    def type_of(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(type_of(item) for item in value)
        if isinstance(value, Tensor):
            return types.get(value.dtype, "*fp64")
        return "fp64" if isinstance(value, float) else "i32"

    kernel = triton.jit(launch.kernel)
    signature, constants = {}, {}
    for i, value in enumerate((*tensors, *launch.numbers)):
        name = kernel.arg_names[i]
        if name == "SINE":
            value = Sine(data == "fp64", data == "bf16", interpreted=False)
        constant = kernel.params[i].is_constexpr or value is None
        signature[name] = "constexpr" if constant else type_of(value)
        if constant:
            constants[(i,)] = value
    source = triton.compiler.ASTSource(kernel, signature, constants)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options=launch.options).asm["ptx"]
