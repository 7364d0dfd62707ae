"""What single experiments need beside the ordinary model and its training.

The other rooms know none of it by name: to import this package registers everything here with
them. Phases of training stand in configs/phases.
"""

from extras import tasks

__all__ = ["tasks"]
