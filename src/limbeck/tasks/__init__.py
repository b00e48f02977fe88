"""Tasks: what is asked of an image, and how good the answers are. A task is a file."""

from collections.abc import Container

from limbeck.tasks.classification import TASK as CLASSIFICATION
from limbeck.tasks.multilabel import TASK as MULTILABEL
from limbeck.tasks.regression import TASK as REGRESSION
from limbeck.tasks.task import Measure as Measure
from limbeck.tasks.task import Task as Task

TASKS = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION)}


def measured(document: Container[str]) -> Task:
    """The task whose headline a document holds; classification where it holds none.

    >>> measured({"mae": 0.5}).name
    'regression'
    """
    found = (task for task in TASKS.values() if task.headline.key in document)
    return next(found, CLASSIFICATION)
