"""Saves the weights that the Hugging Face Trainer makes from halved and from whole batches.

    python accumulated.py RESULT.pt

The labels are called `labels`, which is when the Trainer counts items over micro-batches.
"""

import sys

import torch
from torch import Tensor, nn

from limbeck import Distiller, Match, losses, truth


def trained(rows: list[dict[str, Tensor]], size: int, accumulate: int) -> Tensor:
    from transformers import Trainer, TrainingArguments

    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    distiller = Distiller(student, teacher, truth(target="labels") + Match(losses.kl))
    options = TrainingArguments(
        "runs/accumulated",
        max_steps=1,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulate,
        max_grad_norm=0,
        remove_unused_columns=False,
        use_cpu=True,
    )
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    Trainer(distiller, options, train_dataset=rows, optimizers=(optimizer, None)).train()
    return student.weight.detach()


def main(result: str) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [
        {"inputs": torch.randn(4, generator=generator), "labels": torch.tensor(k % 3)}
        for k in range(8)
    ]
    torch.save({"whole": trained(rows, 8, 1), "halves": trained(rows, 4, 2)}, result)


if __name__ == "__main__":
    main(sys.argv[1])
