"""Training: a small plain loop that stops, resumes and spreads over ranks without a difference."""

from limbeck.train.job import Job, Learner
from limbeck.train.loop import train
from limbeck.train.settings import Training

__all__ = ["Job", "Learner", "Training", "train"]
