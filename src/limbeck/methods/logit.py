"""Methods on logits: the student's answer against the teacher's.

The defaults are the papers', in the units of `limbeck.losses`, unless they are said to be limbeck's
choice; where a factor separates these from the authors' code, the loss's docstring has it.
CIFAR-100 settings unless said. Methods that their papers train without labels have
`truth_weight=0`.
"""

from collections.abc import Sequence

from limbeck import losses
from limbeck.dials import Weight
from limbeck.methods.common import objective
from limbeck.methods.curriculum import CTKD, REVERSAL
from limbeck.objective import Match, Objective
from limbeck.schedules import Schedule

TARGET = {"target": "data:target"}


def kd(
    temperature: float | Schedule = 4.0, *, weight: Weight = 0.9, truth_weight: Weight = 0.1
) -> Objective:
    """The textbook: softened probabilities, forward KL.

    ImageNet: T = 1, 0.5 and 0.5.

    >>> kd().parts()
    ['truth', 'kl']
    """
    return objective(truth_weight, weight * Match(losses.kl, temperature=temperature))


def reverse_kl(
    temperature: float | Schedule = 1.0, *, weight: Weight = 1.0, truth_weight: Weight = 0.0
) -> Objective:
    """MiniLLM's direction: the student seeks a mode of the teacher.

    >>> reverse_kl().parts()
    ['reverse_kl']
    """
    return objective(truth_weight, weight * Match(losses.reverse_kl, temperature=temperature))


def jeffreys(
    temperature: float | Schedule = 4.0, *, weight: Weight = 0.45, truth_weight: Weight = 0.1
) -> Objective:
    """Both directions of KL.

    The weights are limbeck's choice: `kd`'s, half of it for each direction.

    >>> jeffreys().parts()
    ['truth', 'jeffreys']
    """
    return objective(truth_weight, weight * Match(losses.jeffreys, temperature=temperature))


def jsd(
    mixture: float | Schedule = 0.5,
    temperature: float | Schedule = 1.0,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 0.0,
) -> Objective:
    """GKD's divergence; `mixture` is the teacher's share, literal up to 0 and 1.

    A setting for language models that are fine-tuned with Adam, which does not mind its size: its
    gradient near equality is a quarter of `kl`'s, and slow under SGD.

    >>> jsd().parts()
    ['jsd']
    """
    match = Match(losses.jsd, mixture=mixture, temperature=temperature)
    return objective(truth_weight, weight * match)


def skew_kl(
    alpha: float | Schedule = 0.1, *, weight: Weight = 1.0, truth_weight: Weight = 0.0
) -> Objective:
    """DistiLLM: forward KL against a student that is mixed with the teacher.

    >>> skew_kl().parts()
    ['skew_kl']
    """
    return objective(truth_weight, weight * Match(losses.skew_kl, alpha=alpha))


def skew_reverse_kl(
    alpha: float | Schedule = 0.1, *, weight: Weight = 1.0, truth_weight: Weight = 0.0
) -> Objective:
    """DistiLLM: reverse KL against a teacher that is mixed with the student.

    >>> skew_reverse_kl().parts()
    ['skew_reverse_kl']
    """
    return objective(truth_weight, weight * Match(losses.skew_reverse_kl, alpha=alpha))


def total_variation(*, weight: Weight = 1.0, truth_weight: Weight = 0.0) -> Objective:
    """f-DISTILL's total variation distance.

    A setting for language models that are fine-tuned with Adam; slow under SGD.

    >>> total_variation().parts()
    ['total_variation']
    """
    return objective(truth_weight, weight * Match(losses.total_variation))


def akl(mu: float = 0.5, *, weight: Weight = 1.0, truth_weight: Weight = 0.0) -> Objective:
    """Adaptive KL: forward for the head of the teacher's classes, reverse for its tail.

    To leave labels out is limbeck's choice.

    >>> akl().parts()
    ['akl']
    """
    return objective(truth_weight, weight * Match(losses.akl, mu=mu))


def logit_mse(*, weight: Weight = 1.0, truth_weight: Weight = 0.0) -> Objective:
    """Ba and Caruana: regression of the logits, without labels.

    The paper sums over classes and halves: their weight of 1 is C/2 here.

    >>> logit_mse().parts()
    ['logit_mse']
    """
    return objective(truth_weight, weight * Match(losses.logit_mse))


def logit_l1(*, weight: Weight = 1.0, truth_weight: Weight = 0.0) -> Objective:
    """Absolute differences of the logits; the weights are limbeck's choice.

    The gradient of a logit is at most 1/C: slow under SGD, where a weight of C is the sum's.

    >>> logit_l1().parts()
    ['logit_l1']
    """
    return objective(truth_weight, weight * Match(losses.logit_l1))


def hard(*, weight: Weight = 0.5, truth_weight: Weight = 0.5) -> Objective:
    """DeiT's hard distillation: the teacher's favourite class is a second label.

    >>> hard().parts()
    ['truth', 'hard']
    """
    return objective(truth_weight, weight * Match(losses.hard))


def dkd(
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | Schedule = 4.0,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Decoupled distillation.

    The authors let the weight grow over the first 20 of 240 epochs, `Linear(0, 1, until=1 / 12)`,
    and take b from 2, 6, 8 by the pair. ImageNet: T = 1, b = 0.5 (ResNet-34 to 18) or 2
    (ResNet-50 to MobileNet), growing over the first epoch.

    >>> dkd().parts()
    ['truth', 'dkd']
    """
    match = Match(losses.dkd, given=TARGET, alpha=alpha, beta=beta, temperature=temperature)
    return objective(truth_weight, weight * match)


def nkd(
    gamma: float = 1.5,
    temperature: float | Schedule = 1.0,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Normalised distillation, with the ImageNet setting; CIFAR-100: g = 3.5, T = 3.

    >>> nkd().parts()
    ['truth', 'nkd']
    """
    match = Match(losses.nkd, given=TARGET, gamma=gamma, temperature=temperature)
    return objective(truth_weight, weight * match)


def dist(
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | Schedule = 4.0,
    *,
    weight: Weight = 2.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Correlations in place of values; ImageNet: T = 1.

    >>> dist().parts()
    ['truth', 'dist']
    """
    match = Match(losses.dist, beta=beta, gamma=gamma, temperature=temperature)
    return objective(truth_weight, weight * match)


def wsld(
    temperature: float | Schedule = 2.0, *, weight: Weight = 2.5, truth_weight: Weight = 1.0
) -> Objective:
    """Weighted soft labels, with the ImageNet setting.

    >>> wsld().parts()
    ['truth', 'wsld']
    """
    match = Match(losses.wsld, given=TARGET, temperature=temperature)
    return objective(truth_weight, weight * match)


def lskd(
    temperature: float | Schedule = 2.0, *, weight: Weight = 9.0, truth_weight: Weight = 0.1
) -> Objective:
    """`kd` on standardised logits, with the weights of the authors' code.

    >>> lskd().parts()
    ['truth', 'lskd']
    """
    return objective(truth_weight, weight * Match(losses.lskd, temperature=temperature))


def dkd_ls(
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float | Schedule = 2.0,
    *,
    weight: Weight = 9.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """`dkd` on standardised logits, 9 times as heavy, as in the authors' code.

    There the weight grows over the first 20 of 240 epochs, as `dkd`'s.

    >>> dkd_ls().parts()
    ['truth', 'standardised_dkd']
    """
    loss = losses.standardised(losses.dkd)
    match = Match(loss, given=TARGET, alpha=alpha, beta=beta, temperature=temperature)
    return objective(truth_weight, weight * match)


def mlkd(
    temperatures: Sequence[float] = (4.0, 3.0, 5.0, 2.0, 6.0),
    pairs: float = 1 / 3,
    *,
    weight: Weight = 0.675,
    truth_weight: Weight = 0.1,
) -> Objective:
    """Multi-level logit distillation of one view.

    Weights are half of what the authors' two views have together, for 100 classes, 64 samples and a
    rate of 0.025. What classes have in common grows as (N/C)^2: at 10 classes it is 100 times as
    heavy. Lower `pairs` or the rate there, or clip.

    >>> mlkd().parts()
    ['truth', 'mlkd']
    """
    match = Match(losses.mlkd, temperatures=temperatures, pairs=pairs)
    return objective(truth_weight, weight * match)


def ttm(gamma: float = 0.1, *, weight: Weight = 45.0, truth_weight: Weight = 1.0) -> Objective:
    """Transformed teacher matching: the student at T = 1, the teacher at T = 1 / g.

    The setting is that of the authors' example, VGG-13 to VGG-8.

    >>> ttm().parts()
    ['truth', 'ttm']
    """
    return objective(truth_weight, weight * Match(losses.ttm, gamma=gamma))


def wttm(gamma: float = 0.2, *, weight: Weight = 4.0, truth_weight: Weight = 1.0) -> Objective:
    """`ttm`, more where the teacher is unsure.

    The setting is that of the authors' example, where it stands beside CRD.

    >>> wttm().parts()
    ['truth', 'wttm']
    """
    return objective(truth_weight, weight * Match(losses.wttm, gamma=gamma))


def ctkd(
    start: float = 1.0,
    spread: float = 20.0,
    reversal: float | Schedule = REVERSAL,
    *,
    weight: Weight = 0.9,
    truth_weight: Weight = 0.1,
) -> Objective:
    """`kd` at one temperature that learns to be hard for the student.

    >>> ctkd().parts()
    ['truth', 'ctkd']
    """
    return objective(truth_weight, weight * CTKD(start=start, spread=spread, reversal=reversal))
