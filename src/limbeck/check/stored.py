"""What a store says of training images, judged as a teacher's answers are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from limbeck.check.answers import SAMPLE, called
from limbeck.check.findings import Findings
from limbeck.data import Images, permutation
from limbeck.store import Stored, by_number
from limbeck.tasks import Task


def judge_stored(name: str, source: Stored, images: Images, task: Task, findings: Findings) -> None:
    """Adds what a store scores on labelled training images in one view, or what is wrong there."""
    labelled = images.labelled
    if "output" not in source.owners or not len(labelled):
        findings.notes.append(f"{called(name)} is a store without whole outputs: it was not judged")
        return
    ids = labelled[torch.from_numpy(permutation(0, 0, len(labelled)).copy())[:SAMPLE]]
    view = np.full(len(ids), source.store.rows.every("view").min())
    logits = source.store.read(by_number(ids.numpy()), view, ["output"])["output"]
    judged, lines = task.judge(f"{called(name)}'s store", logits, images.subset(ids))
    findings.problems.extend(lines)
    if not lines:
        findings.notes.append(scored(name, judged, task, f"{len(ids)} training images"))


def scored(name: str, judged: Mapping[str, Any], task: Task, where: str) -> str:
    """What a teacher that is no torch module scores, in a line."""
    measure = task.headline
    return f"{called(name)}'s {measure.label} is {measure.shown(judged[measure.key])} on {where}"
