"""Tasks: data in three splits, a loss, metrics, and what flows in and out of a network.

A task of your own is a function that returns a :class:`Task`::

    @task("my-task")
    def my_task():
        x, y = load_my_arrays()
        return Task.from_arrays(x, y, metrics={"worst": my_metric}, objective="val_worst")

The test split is for the winners of a search: the trainer never reads it, :func:`~archwright.evaluators.trainer.test_metrics` does.
"""

from .definition import Split as Split
from .definition import Task as Task
from .registry import TASKS as TASKS
from .registry import load_task as load_task
from .registry import task as task

__all__ = ["TASKS", "Split", "Task", "load_task", "task"]
