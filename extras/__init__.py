"""What single experiments need beside the ordinary model and its training.

The other rooms know none of it by name: importing this package registers kinds of attention,
positions and tasks with them; phases of training stand in configs/phases.
"""

from extras import crossbatch, random_positions, tasks

__all__ = ["crossbatch", "random_positions", "tasks"]
