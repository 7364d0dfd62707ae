"""What the entry points share: composing and validating a config, errors, progress, checkpoints.

Light on purpose: `--help`, `--cfg job` and wrong values are answered without importing torch.
"""

from cli.command import run_command
from cli.compose import plain
from cli.errors import UserError, refuse, user_errors
from cli.overrides import Overrides

__all__ = ["Overrides", "UserError", "plain", "refuse", "run_command", "user_errors"]
