"""Pretraining of encoders and maskers, and what they are worth afterwards.

The names that users need are looked up when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adios_zoo.late import looked_up

if TYPE_CHECKING:
    from .evaluate.accuracy.cluster import evaluate_cluster as evaluate_cluster
    from .evaluate.accuracy.finetune import evaluate_finetune as evaluate_finetune
    from .evaluate.accuracy.knn import evaluate_knn as evaluate_knn
    from .evaluate.accuracy.linear import evaluate_linear as evaluate_linear
    from .evaluate.task import Task as Task
    from .recipe.recipe import read_recipe as read_recipe
    from .recipe.settings import Recipe as Recipe
    from .report.page import write_report as write_report
    from .run.pretraining import pretrain as pretrain

_HOME = {
    "Recipe": "adios_zoo.train.recipe.settings",
    "Task": "adios_zoo.train.evaluate.task",
    "evaluate_cluster": "adios_zoo.train.evaluate.accuracy.cluster",
    "evaluate_finetune": "adios_zoo.train.evaluate.accuracy.finetune",
    "evaluate_knn": "adios_zoo.train.evaluate.accuracy.knn",
    "evaluate_linear": "adios_zoo.train.evaluate.accuracy.linear",
    "pretrain": "adios_zoo.train.run.pretraining",
    "read_recipe": "adios_zoo.train.recipe.recipe",
    "write_report": "adios_zoo.train.report.page",
}

__all__ = [
    "Recipe",
    "Task",
    "evaluate_cluster",
    "evaluate_finetune",
    "evaluate_knn",
    "evaluate_linear",
    "pretrain",
    "read_recipe",
    "write_report",
]

__getattr__, __dir__ = looked_up(__name__, _HOME)
