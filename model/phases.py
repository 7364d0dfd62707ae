"""The rotary phases that a module holds, so that nothing done to the module can lose them.

They are integers, so that no cast touches them, and derived, so that no checkpoint holds them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class WithPhases(nn.Module):
    """A module with the buffer `phases`, once `keep_phases` was called.

    One that is built on the meta device gets memory by `to_empty`, which fills no buffer, or by
    `load_state_dict(assign=True)`, which knows of none that is not in the checkpoint. A second
    copy, which is no buffer and stays on the CPU, puts the values there in both cases.
    """

    phases: Tensor  # int64, in 2^-64 of a turn per position
    _kept: Tensor | None = None

    def keep_phases(self, phases: Tensor) -> None:
        """Take these phases (CPU), in place where there were some: compiled graphs follow."""
        self._kept = phases
        if "phases" in self._buffers:
            self._refill()
        else:
            self.register_buffer("phases", phases.clone(), persistent=False)

    def _refill(self) -> None:
        if self._kept is not None and not self.phases.is_meta:
            self.phases.copy_(self._kept)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "WithPhases":
        """What `to`, `to_empty` and their like call."""
        super()._apply(fn, recurse)
        self._refill()
        return self

    def put_phases(self, device: torch.device) -> None:
        """Have the phases where loading has put the parameters."""
        if self._kept is not None and device.type != "meta" and self.phases.device != device:
            self.phases = self._kept.to(device, copy=True)


def follow_parameters(module: nn.Module, _: Any) -> None:
    """A hook for after loading, of a module with parameters of its own."""
    assert isinstance(module, WithPhases)
    module.put_phases(next(module.parameters()).device)
