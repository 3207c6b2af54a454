"""Tasks: what a model is asked, and what is made of its answers. `run` runs them."""

from ming_core.engine.answers import checked
from ming_core.tasks.running import Outcome, Progress, run, run_many
from ming_core.tasks.task import NoTarget, Result, Task, WrongCall, method_of

__all__ = [
    "NoTarget",
    "Outcome",
    "Progress",
    "Result",
    "Task",
    "WrongCall",
    "checked",
    "method_of",
    "run",
    "run_many",
]
