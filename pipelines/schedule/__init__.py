"""Trials through Ray Tune: the queue, the callbacks, the trainable, several machines, shares of a GPU.

Importing this package loads no Ray; ``run_schedule`` does.
"""

from pipelines.schedule.run import run_schedule
