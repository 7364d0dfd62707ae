"""Who is compared: our kernels and their peers, what each needs, and what each can do.

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchmarks.rotations import (
    Prepare,
    compiled,
    copy,
    liger,
    ours,
    ours_in_place,
    seed,
    table,
)
from benchmarks.shapes import Shape
from kernels import rope_pytorch, rope_triton

NO_DERIVATIVE = "has no derivative"


@dataclass(frozen=True)
class Peer:
    """A way to rotate.

    Attributes:
        what: a line about it.
        prepare: makes the rotation for a shape: tables, phases, positions.
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
    prepare: Prepare
    interleaved: bool | None
    layout: Literal["BSHD", "BHSD view", "BHSD"] = "BSHD"
    in_place: bool = False
    on_cpu: Literal["timed", "checked"] | None = None
    package: str | None = None
    backward: bool = True
    general: bool = True
    compiled: bool = False

    def refusal(self, shape: Shape, device: torch.device) -> str | None:
        """Why it cannot rotate this shape here, or None."""
        if self.package is not None and importlib.util.find_spec(self.package) is None:
            return f"{self.package.replace('_', '-')} is not installed"
        if device.type == "cpu" and self.on_cpu is None:
            return "needs a CUDA GPU"
        if not self.general and (shape.rotary_dim or shape.seq_len == 1):
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


_pytorch = ours(rope_pytorch, interleaved=True)

PEERS: dict[str, Peer] = {
    "copy": Peer(
        "a copy_ of q and one of k: each byte read and written once",
        copy,
        interleaved=None,
        on_cpu="timed",
    ),
    "ropewalk": Peer(
        "kernels.rope_triton",
        ours(rope_triton, interleaved=True),
        interleaved=True,
        on_cpu="checked",
        package="triton",
    ),
    "ropewalk-half-split": Peer(
        "kernels.rope_triton with the pairs (i, i + R/2)",
        ours(rope_triton, interleaved=False),
        interleaved=False,
        on_cpu="checked",
        package="triton",
    ),
    "ropewalk-in-place": Peer(
        # With a gradient its host cost contains that of making q and k no leaves.
        "kernels.rope_triton_ with the pairs (i, i + R/2), overwriting gradients too",
        ours_in_place,
        interleaved=False,
        in_place=True,
        on_cpu="checked",
        package="triton",
    ),
    "pytorch": Peer("kernels.rope_pytorch, eager", _pytorch, interleaved=True, on_cpu="timed"),
    "pytorch-compiled": Peer(
        "kernels.rope_pytorch in torch.compile",
        compiled(_pytorch),
        interleaved=True,
        on_cpu="timed",
        compiled=True,
    ),
    "table": Peer(
        "Llama's formula with cos/sin tables, eager", table, interleaved=False, on_cpu="timed"
    ),
    "table-compiled": Peer(
        "Llama's formula with cos/sin tables in torch.compile",
        compiled(table),
        interleaved=False,
        on_cpu="timed",
        compiled=True,
    ),
    "liger": Peer(
        "LigerRopeFunction in place, in the layout that it prefers",
        liger,
        interleaved=False,
        layout="BHSD view",
        in_place=True,
        package="liger_kernel",
    ),
    "liger-contiguous": Peer(
        "LigerRopeFunction with q and k stored heads first, which it has to copy",
        liger,
        interleaved=False,
        layout="BHSD",
        in_place=True,
        package="liger_kernel",
    ),
    "seed": Peer(
        "the kernel that this project began from: a program per head, pair after pair",
        seed,
        interleaved=True,
        package="triton",
        backward=False,
        general=False,
    ),
}
OURS = {True: "ropewalk", False: "ropewalk-half-split", None: "ropewalk"}  # by the pairing
