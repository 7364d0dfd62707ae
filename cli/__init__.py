"""What the entry points share: composing and validating a config, errors, progress, checkpoints.

Light on purpose: `--help` and `--cfg job` answer without importing torch.
"""

from cli.command import run_command
from cli.errors import UserError, user_errors

__all__ = ["UserError", "run_command", "user_errors"]
