"""What answers look like: logits, log-probabilities, probabilities."""

from torch import Tensor

from limbeck.foreign.spec import Output

NEAR = 1e-2  # what half precision and many classes can be off
EXACT = 1e-5


def kind_of(answer: Tensor) -> list[Output]:
    """The kinds that the rows (R, classes) of many samples can be of, the likeliest first.

    Numbers in 0..1 that are as spread as answers of a trained model are not taken for logits.

    >>> import torch
    >>> kind_of(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    ['probabilities']
    >>> kind_of(torch.tensor([[0.9, 0.8], [0.0, 0.7]]))
    ['sigmoid']
    >>> kind_of(torch.tensor([[3.0, -1.0]]))
    ['logits']
    """
    x = answer.double()
    inside = bool(((x >= 0) & (x <= 1 + NEAR)).all())
    if inside and near(x.sum(-1), 1.0) and x.shape[-1] > 1:
        exact = near(x.sum(-1), 1.0, EXACT)  # which probabilities of each class alone never are
        return ["probabilities"] if exact else ["probabilities", "sigmoid"]
    if inside and float(x.max() - x.min()) > 0.5:
        return ["sigmoid"]
    if inside:
        return ["logits", "sigmoid"]
    if bool((x <= NEAR).all()) and near(x.logsumexp(-1), 0.0):
        return ["log_probabilities"]
    return ["logits"]


def near(x: Tensor, value: float, most: float = NEAR) -> bool:
    return bool(((x - value).abs() <= most).all())
