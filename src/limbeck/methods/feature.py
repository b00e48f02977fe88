"""Methods on features: what a layer of the student makes of an image, as a layer of a teacher.

`student` and `theirs` are signals, the same name unless said. Weights are the authors', in the
units of `limbeck.losses`; where a factor of a map's size H*W stands between, the docstring has it.
Several layers add up, the labels once: `at("layer2") + at("layer3", truth_weight=0)`.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from limbeck import losses, projectors
from limbeck.dials import Weight
from limbeck.methods.calibration import SemCKD
from limbeck.methods.common import objective
from limbeck.methods.factors import Factors, Paraphraser, translator
from limbeck.methods.generation import generator
from limbeck.methods.margins import Overhaul
from limbeck.methods.queries import AFD
from limbeck.methods.regression import Regression
from limbeck.methods.reuse import SimKD
from limbeck.methods.review import ReviewKD
from limbeck.methods.variational import VID
from limbeck.objective import Loss, Match, Objective, truth
from limbeck.projectors import Factory
from limbeck.schedules import Schedule


def fitnet(
    student: str,
    theirs: str | None = None,
    *,
    project: Factory | nn.Module = projectors.active,
    weight: Weight = 100.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """FitNets: a middle layer gives a hint, by a projector.

    The weight is that of common code, whose projector is this one: convolution, batch norm, ReLU;
    `projectors.normed` is for features of either sign. With a bare `conv` a rate times the weight
    of much more than 4 diverges. The paper trains up to the hint first, on half the sum over C, H,
    W: C*H*W/2 times `hint`.

    >>> fitnet("layer2").parts()
    ['truth', 'hint[layer2]']
    """
    hint = Match(losses.hint, student, theirs, project=project)
    return objective(truth_weight, weight * hint)


def at(
    student: str, theirs: str | None = None, *, weight: Weight = 15.6, truth_weight: Weight = 1.0
) -> Objective:
    """Attention transfer: where a layer looks.

    The authors' weight is 1000 on the mean over positions: 1000/(H*W) here, 15.6 for 8x8 maps,
    20.4 for 7x7.

    >>> at("layer3").parts()
    ['truth', 'attention[layer3]']
    """
    return objective(truth_weight, weight * Match(losses.attention, student, theirs))


def nst(
    student: str, theirs: str | None = None, *, weight: Weight = 50.0, truth_weight: Weight = 1.0
) -> Objective:
    """Neuron selectivity transfer: which patterns a layer's channels have.

    >>> nst("layer3").parts()
    ['truth', 'nst[layer3]']
    """
    return objective(truth_weight, weight * Match(losses.nst, student, theirs))


def fsp(
    student: tuple[str, str],
    theirs: tuple[str, str] | None = None,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Flow of solution procedure: how a layer leads to a deeper one.

    Both sides need the same channels at both layers. The paper trains on this alone first:
    `truth_weight=0`. It grows as the fourth power of the features.

    >>> fsp(("layer1", "layer2")).parts()
    ['truth', 'fsp[layer1]']
    """
    return objective(truth_weight, weight * two_layers(losses.fsp, student, theirs or student))


def kdsvd(
    student: tuple[str, str],
    theirs: tuple[str, str] | None = None,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Singular value decomposition: how the main direction of a layer leads to a deeper one's.

    Both sides need the same channels at both layers.

    >>> kdsvd(("layer1", "layer2")).parts()
    ['truth', 'kdsvd[layer1]']
    """
    return objective(truth_weight, weight * two_layers(losses.kdsvd, student, theirs or student))


def ft(
    student: str,
    theirs: str | None = None,
    *,
    paraphraser: Paraphraser,
    weight: Weight = 500.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Factor transfer: what a trained paraphraser makes of a layer, by a translator.

    >>> ft("layer3", paraphraser=Paraphraser(64)).parts()
    ['truth', 'ft[layer3]']
    """
    loss, project = Factors(paraphraser), partial(translator, rate=paraphraser.rate)
    term = Match(loss, student, theirs, project=project, name=f"ft[{student}]")
    return objective(truth_weight, weight * term)


def ab(
    student: str,
    theirs: str | None = None,
    *,
    margin: float = 1.0,
    project: Factory | nn.Module = projectors.normed,
    weight: Weight = 0.192,
    truth_weight: Weight = 0.0,
) -> Objective:
    """Activation boundaries: which neurons of a layer are active, before the ReLU.

    It initialises a student, which then trains on labels; hence no truth. The authors' weight is
    3/1000 on the sum over positions: 0.003*H*W here, 0.192 for 8x8 maps, halved for each layer
    before the last.

    >>> ab("bn3").parts()
    ['ab[bn3]']
    """
    term = Match(losses.ab, student, theirs, project=project, margin=margin)
    return objective(truth_weight, weight * term)


def vid(
    student: str, theirs: str | None = None, *, weight: Weight = 1.0, truth_weight: Weight = 1.0
) -> Objective:
    """Variational information distillation: how much a layer says of the teacher's.

    >>> vid("layer3").parts()
    ['truth', 'vid[layer3]']
    """
    return objective(truth_weight, weight * VID(student, theirs))


def ofd(
    student: str,
    theirs: str | None = None,
    *,
    norm: nn.BatchNorm2d,
    project: Factory | nn.Module = projectors.normed,
    weight: Weight = 0.064,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Overhaul: features before the ReLU, above the margins of the teacher's normalisation `norm`.

    The authors' weight is 1/1000 on the sum over positions on CIFAR and 1/10000 on ImageNet: times
    H*W here, 0.064 for 8x8 maps, halved for each layer before the last. Their teacher normalises by
    the batch; limbeck's is in eval mode.

    >>> ofd("bn3", norm=nn.BatchNorm2d(64)).parts()
    ['truth', 'ofd[bn3]']
    """
    term = Match(Overhaul(norm), student, theirs, project=project, name=f"ofd[{student}]")
    return objective(truth_weight, weight * term)


def reviewkd(
    student: Sequence[str],
    theirs: Sequence[str] | None = None,
    *,
    width: int | None = None,
    weight: Weight = 5.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Knowledge review: each stage with what deeper ones add to it.

    Weights by pair: CIFAR-100 0.6 (ResNet-56 to 20), 1 (110 to 32), 8 (to ShuffleNetV2), 5 for
    most; ImageNet 1 (ResNet-34 to 18) and 8 (50 to MobileNet). The authors raise it from 0 over 20
    epochs on CIFAR-100: give a schedule.

    >>> reviewkd(["layer2", "layer3", "layer4"]).parts()
    ['truth', 'reviewkd']
    """
    return objective(truth_weight, weight * ReviewKD(student, theirs, width=width))


def simkd(student: str, theirs: str | None = None, *, classifier: nn.Module) -> SimKD:
    """The last features by a projector, for the teacher's own `classifier`; no labels.

    The student to evaluate and ship is `simkd(...).deployable(student)`: keep the objective.

    >>> simkd("layer4", classifier=nn.Linear(512, 100)).parts()
    ['simkd[layer4]']
    """
    return SimKD(student, theirs, classifier=classifier)


def srrl(
    student: str,
    theirs: str | None = None,
    *,
    classifier: nn.Module,
    regression: float = 1.0,
    project: Factory | nn.Module = projectors.active,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Softmax regression: the last features, also as the teacher's frozen `classifier` reads them.

    `regression` weighs the logits within the term.

    >>> srrl("layer4", classifier=nn.Linear(512, 100)).parts()
    ['truth', 'srrl[layer4]']
    """
    loss = Regression(classifier, regression)
    term = Match(loss, student, theirs, project=project, name=f"srrl[{student}]")
    return objective(truth_weight, weight * term)


def cat_kd(
    student: str,
    theirs: str | None = None,
    *,
    resolution: int = 2,
    normalise: bool = False,
    weight: Weight = 12.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Class attention transfer: class activation maps, one channel a class, before pooling.

    Weights by pair: 0.7 (ResNet-56 to 20), 1.8 (110 to 32), 4.5 (VGG), 12 to 15 (Wide ResNets,
    ResNet-32x4 to 8x4), 0.5 (ImageNet, ResNet-34 to 18). With `normalise`: 40 (to MobileNetV2), 80
    and 600 (to ShuffleNets), 10 (ImageNet, ResNet-50 to MobileNet).

    >>> cat_kd("cams").parts()
    ['truth', 'cat_kd[cams]']
    """
    term = Match(losses.cat_kd, student, theirs, resolution=resolution, normalise=normalise)
    return objective(truth_weight, weight * term)


def mgd(
    student: str,
    theirs: str | None = None,
    *,
    positions: bool = False,
    ratio: float = 0.15,
    weight: Weight = 0.00343,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Masked generation: the teacher's features restored from part of the student's.

    For classification channels are dropped; for detection and segmentation `positions=True`, with
    ratio 0.65 (one-stage), 0.45 (two-stage) or 0.75 (segmentation). The authors' weight on the sum
    over positions is 7e-5, or 2e-5, 5e-7 and 2e-5: times H*W here, 0.00343 for 7x7 maps. Clip
    gradients.

    >>> mgd("layer4").parts()
    ['truth', 'mgd[layer4]']
    """
    term = Match(losses.mgd, student, theirs, project=generator(ratio, positions))
    return objective(truth_weight, weight * term)


def vkd(
    student: str,
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 1.0,
    weight: Weight = 1.0,
    kd_weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Pooled features by an orthogonal map, against the teacher's at mean 0 and variance 1.

    >>> vkd("norm", "layer4").parts()
    ['truth', 'kl', 'vkd[norm]']
    """
    soft = Match(losses.kl, temperature=temperature)
    features = Match(losses.vkd, student, theirs, project=projectors.orthogonal)
    return objective(truth_weight, kd_weight * soft + weight * features)


def srd_logsum(
    student: str,
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 1.0,
    weight: Weight = 2.0,
    kd_weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Pooled features by a linear map, standardised over the batch; the authors' form for ResNets.

    >>> srd_logsum("layer4").parts()
    ['truth', 'kl', 'srd_logsum[layer4]']
    """
    soft = Match(losses.kl, temperature=temperature)
    features = Match(losses.srd_logsum, student, theirs, project=projectors.pooled)
    return objective(truth_weight, kd_weight * soft + weight * features)


def srd_correlation(
    student: str,
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 1.0,
    weight: Weight = 1.0,
    kd_weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Pooled features by a linear map, each in correlation; the authors' form for transformers.

    >>> srd_correlation("norm", "layer4").parts()
    ['truth', 'kl', 'srd_correlation[norm]']
    """
    soft = Match(losses.kl, temperature=temperature)
    features = Match(losses.srd_correlation, student, theirs, project=projectors.pooled)
    return objective(truth_weight, kd_weight * soft + weight * features)


def afd(
    student: Sequence[str],
    theirs: Sequence[str] | None = None,
    *,
    width: int = 128,
    temperature: float | Schedule = 4.0,
    weight: Weight = 200.0,
    kd_weight: Weight = 0.9,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Attention finds which layers of the student each layer of the teacher teaches where to look.

    >>> afd(["layer2", "layer3"]).parts()
    ['truth', 'kl', 'afd']
    """
    soft = Match(losses.kl, temperature=temperature)
    return objective(truth_weight, kd_weight * soft + weight * AFD(student, theirs, width=width))


def semckd(
    student: Sequence[str],
    theirs: Sequence[str] | None = None,
    *,
    batch: int = 64,
    temperature: float | Schedule = 4.0,
    weight: Weight = 400.0,
    kd_weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Every layer of the student chooses which layers of the teacher to imitate, and logits.

    `batch` is the largest batch there is.

    >>> semckd(["layer2", "layer3"]).parts()
    ['truth', 'kl', 'semckd']
    """
    soft = Match(losses.kl, temperature=temperature)
    layers = SemCKD(student, theirs, batch=batch)
    return objective(truth_weight, kd_weight * soft + weight * layers)


def jacobian(*, weight: Weight = 3072.0, truth_weight: Weight = 1.0) -> Objective:
    """Jacobian matching: how the true logit moves with the input.

    Student and teacher are each an `InputGradient(model)` of `limbeck.methods.gradients`, and the
    distiller's inputs are `(x, target)`. The paper sums over the D elements of an input: its weight
    1 is D here, 3072 for 3x32x32.

    >>> jacobian().parts()
    ['truth', 'jacobian']
    """
    term = weight * Match(losses.jacobian, "output.gradient")
    return term if truth_weight == 0 else truth_weight * truth("output.logits") + term


def byot_hint(
    student: str,
    theirs: str,
    *,
    project: Factory | nn.Module = projectors.active,
    weight: Weight = 0.002,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Be your own teacher, its hint: a shallow layer of the student learns from its deepest.

    The authors' weight is 1e-6 on the sum over batch and positions: 1e-6*B*H*W here, 0.002 for 128
    4x4 maps. Each exit has a classifier of its own with `kl` to the deepest, and labels.

    >>> byot_hint("layer2", "layer4").parts()
    ['truth', 'byot_hint[layer2]:student']
    """
    term = Match(losses.byot_hint, student, theirs, source="student", project=project)
    return objective(truth_weight, weight * term)


def sad(
    student: str, theirs: str, *, weight: Weight = 0.1, truth_weight: Weight = 1.0
) -> Objective:
    """Self attention distillation: a layer looks where the student's own next one does.

    The authors switch it on late, after 40,000 steps: give a schedule.

    >>> sad("layer2", "layer3").parts()
    ['truth', 'sad[layer2]:student']
    """
    term = Match(losses.sad, student, theirs, source="student")
    return objective(truth_weight, weight * term)


def two_layers(loss: Loss, student: tuple[str, str], theirs: tuple[str, str]) -> Match:
    """A match of a layer and a deeper one."""
    given = {"s_deep": f"student:{student[1]}", "t_deep": f"teacher:{theirs[1]}"}
    return Match(loss, student[0], theirs[0], given=given)
