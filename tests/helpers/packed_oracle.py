"""What the tests of `rope_qkv` share: cases, and the same computation written out in float64.

Shapes: B batch, S sequence, H heads of q, H_kv of k and v, D head_dim, P rotated pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import inverse_frequencies, rope_qkv
from oracle import pair_columns

EPS = 1e-3  # large enough to be seen


class Case(NamedTuple):
    """A shape, and what is done to it."""

    heads: tuple[int, int] = (4, 2)  # of q, of k and v
    head_dim: int = 8
    rotary_dim: int = 8
    batch: int = 2
    seq_len: int = 5
    norms: str = "qk"  # which of them have one
    interleaved: bool = True
    factor: float = 1.0
    where: str = "none"  # the placement's name
    layout: str = "dense"

    @property
    def width(self) -> int:
        return (self.heads[0] + 2 * self.heads[1]) * self.head_dim

    def positions(self) -> Tensor:
        """int64 (B, S)."""
        index = torch.arange(self.seq_len).repeat(self.batch, 1)
        if self.where == "positions":
            return index * 31 - 40
        if self.where == "offsets":
            return index + 100 * torch.arange(self.batch)[:, None] - 3
        if self.where == "cu_seqlens":
            return torch.where(index < 2, index, index - 2)
        return index

    def placement(self, device: str) -> dict[str, Tensor]:
        """The same as an argument."""
        positions = self.positions().to(device)
        if self.where == "positions":
            return {"positions": positions}
        if self.where == "offsets":
            return {"offsets": positions[:, 0].int()}
        if self.where == "cu_seqlens":
            bounds = [0, 2, 2, self.seq_len]
            return {"cu_seqlens": torch.tensor(bounds, dtype=torch.int32, device=device)}
        return {}


class Inputs(NamedTuple):
    """What has gradients: qkv (B, S, (H + 2 H_kv) D) and the weights of the norms (D,)."""

    qkv: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None

    def given(self) -> list[Tensor]:
        """Those that are there."""
        return [x for x in self if x is not None]

    def detached(self) -> Inputs:
        return Inputs(*(None if x is None else x.detach() for x in self))


def made(
    case: Case, device: str, dtype: torch.dtype, norm_dtype: torch.dtype | None = None
) -> Inputs:
    """Inputs that require a gradient, laid out as the case says: what is not dense is a view."""
    generator = torch.Generator().manual_seed(29)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.to(device, dtype).requires_grad_()

    shape = case.batch, case.seq_len, case.width
    qkv = {
        "dense": lambda: normal(*shape),
        "slice": lambda: normal(*shape[:2], case.width + 7)[..., 3:-4],
        "transposed": lambda: normal(shape[1], shape[0], shape[2]).transpose(0, 1),
    }[case.layout]()
    weights = (
        normal(case.head_dim, dtype=norm_dtype or dtype) if name in case.norms else None
        for name in "qk"
    )
    return Inputs(qkv, *weights)


def run(case: Case, inputs: Inputs, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v by rope_qkv."""
    return rope_qkv(
        inputs.qkv,
        *case.heads,
        inv_freq=inverse_frequencies(case.rotary_dim, 100.0),
        interleaved=case.interleaved,
        attention_factor=case.factor,
        **case.placement(inputs.qkv.device.type),
        q_norm=inputs.q_norm,
        k_norm=inputs.k_norm,
        eps=EPS,
        backend=backend,
    )


def function_of(case: Case, inputs: Inputs, backend: str) -> Callable[..., tuple[Tensor, ...]]:
    """`run` as a function of `inputs.given()`, each an argument."""

    def apply(*given: Tensor) -> tuple[Tensor, ...]:
        rest = iter(given)
        return run(case, Inputs(*(None if x is None else next(rest) for x in inputs)), backend)

    return apply


def exact(case: Case, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """The same, unfused, from the formulas, in float64 on the CPU."""
    heads, kv_heads = case.heads
    per_head = inputs.qkv.reshape(case.batch, case.seq_len, -1, case.head_dim)
    q, k, v = per_head[:, :, :heads], per_head[:, :, heads:-kv_heads], per_head[:, :, -kv_heads:]
    return turned(case, normed(q, inputs.q_norm)), turned(case, normed(k, inputs.k_norm)), v


def normed(x: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return x
    return x / ((x**2).sum(-1, keepdim=True) / x.shape[-1] + EPS).sqrt() * weight


def turned(case: Case, x: Tensor) -> Tensor:
    exponents = torch.arange(0, case.rotary_dim, 2, dtype=torch.float64) / case.rotary_dim
    angle = case.positions()[:, :, None, None] / 100.0**exponents  # (B, S, 1, P)
    first, second = pair_columns(case.rotary_dim // 2, case.interleaved)
    a, b = x[..., first], x[..., second]
    y = x.clone()
    y[..., first] = (a * angle.cos() - b * angle.sin()) * case.factor
    y[..., second] = (a * angle.sin() + b * angle.cos()) * case.factor
    return y


def in_float64(inputs: Inputs) -> Inputs:
    """The same numbers, on the CPU."""
    copies = (x if x is None else x.cpu().double().requires_grad_() for x in inputs.detached())
    return Inputs(*copies)


def output_gradients(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Random ones, the same in every call."""
    generator = torch.Generator().manual_seed(31)
    return [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.device, y.dtype)
        for y in outputs
    ]


def assert_rounded_once(result: Tensor, right: Tensor, scale: Tensor, data: torch.dtype) -> None:
    """Off by half a unit of the result's dtype, and by what data's precision does to scale."""
    assert result.shape == right.shape
    info = torch.finfo(result.dtype)
    right = right.detach()
    unit = torch.ldexp(torch.ones_like(right), torch.frexp(right).exponent) * info.eps / 2
    unit = unit.clamp(min=info.smallest_normal * info.eps)
    computed = 1e-13 if data == torch.float64 else 4e-6
    error = (result.detach().cpu().double() - right).abs()
    assert (error <= unit / 2 + computed * scale.detach()).all()


def norm_of_heads(x: Tensor, head_dim: int) -> Tensor:
    """For every component the norm of its head, where heads are joined in the last dimension."""
    heads = x.detach().unflatten(-1, (-1, head_dim))
    return heads.norm(dim=-1, keepdim=True).expand_as(heads).flatten(-2)


def inverse_norms(case: Case, qkv: Tensor) -> Tensor:
    """What a norm multiplies gradients by, for every component: √D / |head|, eps in place."""
    heads = qkv.detach().unflatten(-1, (-1, case.head_dim))
    inverse = (heads.square().mean(-1, keepdim=True) + EPS).rsqrt() * case.head_dim**0.5
    return inverse.expand_as(heads).flatten(-2)


def assert_right(case: Case, inputs: Inputs, outputs: tuple[Tensor, ...], **how) -> None:
    """Hold the outputs and, taken `how` torch.autograd.grad takes them, all the gradients."""
    dtype = inputs.qkv.dtype
    expected_inputs = in_float64(inputs)
    expected = exact(case, expected_inputs)
    for y, right in zip(outputs, expected, strict=True):
        assert y.dtype == dtype and y.device == inputs.qkv.device
        assert_rounded_once(y, right, norm_of_heads(right, case.head_dim), dtype)
    assert torch.equal(outputs[2].detach().cpu().double(), expected[2].detach())

    upstream = output_gradients(outputs)
    results = torch.autograd.grad(outputs, inputs.given(), upstream, **how)
    upstream = [g.cpu().double() for g in upstream]
    expected = torch.autograd.grad(expected, expected_inputs.given(), upstream)
    assert [g.dtype for g in results] == [x.dtype for x in inputs.given()]
    # Where a sum cancels, its terms are what was rounded.
    terms = norm_of_heads(expected[0], case.head_dim) + inverse_norms(case, expected_inputs.qkv)
    assert_rounded_once(results[0], expected[0], terms, dtype)
    for result, right in zip(results[1:], expected[1:], strict=True):
        assert_rounded_once(result, right, right.abs().max(), dtype)
