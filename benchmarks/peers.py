"""Who is compared: ways to rotate q and k, each prepared for a cell before its time is taken.

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim, P = R / 2 pairs.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from benchmarks.cells import THETA, Cell
from kernels import inverse_frequencies, rope_phases, rope_pytorch, rope_triton, rope_triton_

NO_DERIVATIVE = "has no derivative"

Rotation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Peer:
    """A way to rotate.

    Attributes:
        what: a line about it.
        prepare: makes the rotation for a cell: tables, phases, positions.
        interleaved: the pairs that it rotates; None: it rotates nothing.
        layout: how it wants q and k: "BSHD"; "BHSD view", the same storage seen with heads first;
            or "BHSD", stored so.
        in_place: it writes what it reads, and so gets copies of its own.
        on_cpu: there it is "timed", "checked" (its result alone) or left out: None.
        package: what must be installed.
        backward: it has a derivative.
        general: it takes positions, and heads that are rotated in part.
        compiled: it is compiled anew for every shape.
    """

    what: str
    prepare: Callable[[Cell, torch.device], Rotation]
    interleaved: bool | None
    layout: Literal["BSHD", "BHSD view", "BHSD"] = "BSHD"
    in_place: bool = False
    on_cpu: Literal["timed", "checked"] | None = None
    package: str | None = None
    backward: bool = True
    general: bool = True
    compiled: bool = False

    def refusal(self, cell: Cell, device: torch.device) -> str | None:
        """Why it cannot rotate this cell here, or None."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return f"{self.package.replace('_', '-')} is not installed"
        if device.type == "cpu" and self.on_cpu is None:
            return "needs a CUDA GPU"
        if not self.general and (cell.rotary_dim or cell.seq_len == 1):
            return "rotates whole heads, at positions 0 ... S-1"
        return None

    def arrange(self, x: Tensor) -> Tensor:
        """x (B, S, H, D) in the layout that the rotation takes."""
        x = x.clone() if self.in_place else x
        if self.layout == "BSHD":
            return x
        return x.transpose(1, 2) if self.layout == "BHSD view" else x.transpose(1, 2).contiguous()

    def restore(self, y: Tensor) -> Tensor:
        """What `arrange` did, undone."""
        return y if self.layout == "BSHD" else y.transpose(1, 2)


class _Copy(torch.autograd.Function):
    """q and k copied, and in the backward pass their gradients: the bytes of a rotation."""

    @staticmethod
    def forward(ctx, q, k):
        return torch.empty_like(q).copy_(q), torch.empty_like(k).copy_(k)

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        return torch.empty_like(grad_q).copy_(grad_q), torch.empty_like(grad_k).copy_(grad_k)


def _copy(cell: Cell, device: torch.device) -> Rotation:
    return _Copy.apply


def _ours(rope: Callable, *, interleaved: bool) -> Callable[[Cell, torch.device], Rotation]:
    """One of this project's backends, with its phases at hand as a model has them."""

    def prepare(cell: Cell, device: torch.device) -> Rotation:
        phases = rope_phases(inverse_frequencies(cell.rotated, THETA)).to(device)
        positions = cell.positions(device)

        def rotate(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            return rope(q, k, positions=positions, phases=phases, interleaved=interleaved)

        return rotate

    return prepare


class _Given(torch.autograd.Function):
    """q and k as if an operation had made them, to be overwritten: leaves must not be."""

    @staticmethod
    def forward(ctx, q, k):
        return q.detach(), k.detach()

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        return grad_q, grad_k


def _ours_in_place(cell: Cell, device: torch.device) -> Rotation:
    """In the half-split pairing, over the tensors and over their gradients, as Liger does."""
    rope = partial(rope_triton_, overwrite_gradients=True)
    rotate = _ours(rope, interleaved=False)(cell, device)
    return lambda q, k: rotate(*(_Given.apply(q, k) if q.requires_grad else (q, k)))


def cos_sin_tables(cell: Cell, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (1, S, R) or (B, 1, R) in the cell's dtype, as Llama's users make them.

    Angles are float32 products; each half of R holds the P pairs.
    """
    exponents = torch.arange(0, cell.rotated, 2, device=device).float() / cell.rotated
    positions = cell.positions(device)
    if positions is None:
        positions = torch.arange(cell.seq_len, device=device)[None]
    angles = positions[..., None].float() * THETA**-exponents
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(cell.dtype), angles.sin().to(cell.dtype)


def _table(cell: Cell, device: torch.device) -> Rotation:
    """x · cos + rotate_half(x) · sin, in the tensors' own dtype."""
    cos, sin = (table[:, :, None] for table in cos_sin_tables(cell, device))  # (., S, 1, R)

    def rotate_one(x: Tensor) -> Tensor:
        rotary, tail = x[..., : cell.rotated], x[..., cell.rotated :]
        first, second = rotary.chunk(2, dim=-1)
        y = rotary * cos + torch.cat((-second, first), dim=-1) * sin
        return torch.cat((y, tail), dim=-1) if cell.rotary_dim else y

    return lambda q, k: (rotate_one(q), rotate_one(k))


def _liger(cell: Cell, device: torch.device) -> Rotation:
    from liger_kernel.ops.rope import LigerRopeFunction

    cos, sin = cos_sin_tables(cell, device)
    if cell.rotary_dim is None:
        return lambda q, k: LigerRopeFunction.apply(q, k, cos, sin)
    # Releases that rotate whole heads only know no such argument, and say so.
    return lambda q, k: LigerRopeFunction.apply(q, k, cos, sin, None, 1, cell.rotary_dim)


def _seed(cell: Cell, device: torch.device) -> Rotation:
    from benchmarks.seed_kernel import rotate_serially

    return lambda q, k: rotate_serially(q, k, THETA)


def _compiled(prepare: Callable[[Cell, torch.device], Rotation]) -> Callable:
    def prepare_compiled(cell: Cell, device: torch.device) -> Rotation:
        return torch.compile(prepare(cell, device), fullgraph=True, dynamic=False)

    return prepare_compiled


_pytorch = _ours(rope_pytorch, interleaved=True)

PEERS: dict[str, Peer] = {
    "copy": Peer(
        "a copy_ of q and one of k: each byte read and written once", _copy, None, on_cpu="timed"
    ),
    "ropewalk": Peer(
        "kernels.rope_triton",
        _ours(rope_triton, interleaved=True),
        True,
        on_cpu="checked",
        package="triton",
    ),
    "ropewalk-half-split": Peer(
        "kernels.rope_triton with the pairs (i, i + R/2)",
        _ours(rope_triton, interleaved=False),
        False,
        on_cpu="checked",
        package="triton",
    ),
    "ropewalk-in-place": Peer(
        # With a gradient its host cost is that of the identity _Given too.
        "kernels.rope_triton_ with the pairs (i, i + R/2), overwriting gradients too",
        _ours_in_place,
        False,
        in_place=True,
        on_cpu="checked",
        package="triton",
    ),
    "pytorch": Peer("kernels.rope_pytorch, eager", _pytorch, True, on_cpu="timed"),
    "pytorch-compiled": Peer(
        "kernels.rope_pytorch in torch.compile",
        _compiled(_pytorch),
        True,
        on_cpu="timed",
        compiled=True,
    ),
    "table": Peer("Llama's formula with cos/sin tables, eager", _table, False, on_cpu="timed"),
    "table-compiled": Peer(
        "Llama's formula with cos/sin tables in torch.compile",
        _compiled(_table),
        False,
        on_cpu="timed",
        compiled=True,
    ),
    "liger": Peer(
        "LigerRopeFunction in place, in the layout that it prefers",
        _liger,
        False,
        layout="BHSD view",
        in_place=True,
        package="liger_kernel",
    ),
    "liger-contiguous": Peer(
        "LigerRopeFunction with q and k stored heads first, which it has to copy",
        _liger,
        False,
        layout="BHSD",
        in_place=True,
        package="liger_kernel",
    ),
    "seed": Peer(
        "the kernel that this project began from: a program per head, pair after pair",
        _seed,
        True,
        package="triton",
        backward=False,
        general=False,
    ),
}
OURS = {True: "ropewalk", False: "ropewalk-half-split", None: "ropewalk"}
