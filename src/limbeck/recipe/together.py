"""Several networks that answer as one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.mixing import mean_of_logits, mean_of_probabilities


class Together(nn.Module):
    """The mean answer of several networks: of their probabilities, or of what they say as it is."""

    def __init__(self, models: Sequence[nn.Module], probabilities: bool) -> None:
        super().__init__()
        self.models, self.probabilities = nn.ModuleList(models), probabilities

    def forward(self, x: Any) -> Tensor:
        answers = torch.stack([model(x) for model in self.models])
        share = answers.new_full((len(answers), *[1] * (answers.ndim - 1)), 1 / len(answers))
        mean = mean_of_probabilities if self.probabilities else mean_of_logits
        return mean(answers, share)
