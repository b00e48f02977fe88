"""Methods of segmentation and detection.

Segmentation has labels for pixels, (B, H, W) of the size of the logits, -100 where void; `mask` is
the signal of the pixels that count, such as `"data:valid"`. Detectors bring losses of their own:
add them as a `Term`. What is matched of a detector is a level of its neck or head: add levels up.
Boxes are (B, N, 4) in pixels of the image that was fed, filled up with rows of x2 < x1.
"""

from collections.abc import Sequence

from torch import nn

from limbeck import losses, projectors
from limbeck.dials import Weight
from limbeck.errors import LimbeckError
from limbeck.methods.cross import CrossKD
from limbeck.methods.focal import FGD
from limbeck.objective import Match, Objective, Sum, Truth
from limbeck.schedules import Schedule


def pixel_kd(
    student: str = "output",
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 1.0,
    mask: str | None = None,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """The classes of every pixel.

    The code of SKD keeps the source's entropy and sums over the batch: B times this gradient.

    >>> pixel_kd(mask="data:valid").parts()
    ['truth', 'kl']
    """
    term = weight * pixels(student, theirs, mask, temperature)
    return segmented(truth_weight, term, student)


def cwd(
    features: str,
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 1.0,
    mask: str | None = None,
    student: str = "output",
    weight: Weight = 50.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Channel-wise distillation of features: where each channel is active.

    A level of a detector's neck takes weight 10 and `truth_weight=0`.

    >>> cwd("decoder").parts()
    ['truth', 'channelwise[decoder]']
    """
    term = Match(
        losses.channelwise,
        features,
        theirs,
        project=projectors.fitted,
        given=masked(mask),
        temperature=temperature,
    )
    return segmented(truth_weight, weight * term, student)


def cwd_logits(
    student: str = "output",
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 4.0,
    mask: str | None = None,
    weight: Weight = 3.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Channel-wise distillation of logits: where each class is.

    >>> cwd_logits().parts()
    ['truth', 'channelwise']
    """
    term = Match(losses.channelwise, student, theirs, given=masked(mask), temperature=temperature)
    return segmented(truth_weight, weight * term, student)


def skd(
    features: str,
    theirs: str | None = None,
    *,
    scale: float = 0.5,
    mask: str | None = None,
    student: str = "output",
    weight: Weight = 1.0,
    pixel_weight: Weight = 10.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Structured distillation: the similarities of regions, and the classes of pixels.

    The paper's adversarial term is not part of it.

    >>> skd("backbone").parts()
    ['truth', 'kl', 'pairwise[backbone]']
    """
    pairs = Match(losses.pairwise, features, theirs, given=masked(mask), scale=scale)
    term = pixel_weight * pixels(student, None, mask) + weight * pairs
    return segmented(truth_weight, term, student)


def ifvd(
    features: str,
    theirs: str | None = None,
    *,
    classes: int,
    labels: str = "data:target",
    mask: str | None = None,
    student: str = "output",
    weight: Weight = 200.0,
    pixel_weight: Weight = 10.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Intra-class feature variation: how far pixels are from the centre of their class.

    `mask` is for the pixels' classes; features go by the labels alone, at their own size. The
    paper's adversarial term is not part of it. CIRKD's tables use weight 20.

    >>> ifvd("backbone", classes=19).parts()
    ['truth', 'kl', 'ifvd[backbone]']
    """
    centres = Match(losses.ifvd, features, theirs, given={"labels": labels}, classes=classes)
    term = pixel_weight * pixels(student, None, mask) + weight * centres
    return segmented(truth_weight, term, student)


def cirkd(
    features: str,
    theirs: str | None = None,
    *,
    temperature: float | Schedule = 0.1,
    mask: str | None = None,
    student: str = "output",
    weight: Weight = 1.0,
    pixel_weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Cross-image relations: how pixels resemble those of all images of the batch.

    The paper's two terms against a memory of earlier batches are not part of it.

    >>> cirkd("backbone").parts()
    ['truth', 'kl', 'cirkd[backbone]']
    """
    relations = Match(losses.cirkd, features, theirs, temperature=temperature)
    term = pixel_weight * pixels(student, None, mask) + weight * relations
    return segmented(truth_weight, term, student)


def pkd(
    student: str,
    theirs: str | None = None,
    *,
    mask: str | None = None,
    weight: Weight = 6.0,
) -> Objective:
    """Pearson correlation of the channels of a level.

    The authors divide by BHW - 1: (BHW - 1)/(BHW) times this. Weight 10 for a RetinaNet of X101.

    >>> pkd("neck.0").parts()
    ['pkd[neck.0]']
    """
    term = Match(losses.pkd, student, theirs, project=projectors.fitted, given=masked(mask))
    return weight * term


def fgd(
    student: str,
    theirs: str | None = None,
    *,
    stride: float,
    boxes: str = "data:boxes",
    temperature: float = 0.5,
    foreground: float = 1e-3,
    background: float = 5e-4,
    attention: float = 5e-4,
    relation: float = 5e-6,
    weight: Weight = 1.0,
) -> Objective:
    """Focal and global distillation of a level: objects, background, attention and context.

    The authors' weights for RetinaNet, on their sums over positions: `limbeck.methods.focal.FGD`
    says how. FCOS takes T 0.8 and 1.6e-3, 8e-4, 8e-4, 8e-6; detectors of two stages 5e-5, 2.5e-5,
    5e-5, 5e-7.

    >>> fgd("neck.0", stride=8).parts()
    ['fgd[neck.0]', 'fgd[neck.0].context']
    """
    term = FGD(
        student,
        theirs,
        stride=stride,
        boxes=boxes,
        temperature=temperature,
        foreground=foreground,
        background=background,
        attention=attention,
        relation=relation,
    )
    return weight * term


def fgfi(
    student: str,
    theirs: str | None = None,
    *,
    stride: float,
    anchors: Sequence[tuple[float, float]],
    boxes: str = "data:boxes",
    weight: Weight = 0.01,
) -> Objective:
    """Fine-grained feature imitation: squared difference where anchors are near objects.

    The authors wait for 400 steps: `weight=Linear(...)` of `limbeck.schedules` can.

    >>> fgfi("neck.0", stride=16, anchors=[(32, 32), (64, 64)]).parts()
    ['fgfi[neck.0]']
    """
    options = {"stride": stride, "anchors": list(anchors)}
    given = {"boxes": boxes}
    project = projectors.around_active
    return weight * Match(losses.fgfi, student, theirs, project=project, given=given, **options)


def defeat(
    student: Sequence[str],
    theirs: Sequence[str] | None = None,
    *,
    strides: Sequence[float],
    boxes: str = "data:boxes",
    foreground: float = 3.0,
    background: float = 12.0,
    weight: Weight = 1.0,
) -> Objective:
    """Decoupled features: the squared difference on and off objects, over the levels of a neck.

    The mean of the levels. The paper counts positions alone, without channels: C times this.

    >>> defeat(["neck.0", "neck.1"], strides=[8, 16]).parts()
    ['defeat[neck.0]', 'defeat[neck.1]']
    """
    theirs, levels = theirs or student, len(student)
    if not levels == len(theirs) == len(strides):
        raise LimbeckError(
            "defeat takes as many of the source's levels and strides as of the student's levels, "
            f"got {len(theirs)} and {len(strides)} beside {levels}"
        )
    terms = [
        Match(
            losses.defeat,
            mine,
            other,
            project=projectors.around,
            given={"boxes": boxes},
            stride=stride,
            level=level,
            levels=levels,
            foreground=foreground,
            background=background,
        )
        for level, (mine, other, stride) in enumerate(zip(student, theirs, strides, strict=True))
    ]
    return weight * Sum([(1 / levels, term) for term in terms])


def ld(
    student: str = "sides",
    theirs: str | None = None,
    *,
    score: str = "student:score",
    temperature: float | Schedule = 10.0,
    mask: str | None = None,
    weight: Weight = 0.25,
) -> Objective:
    """Localisation distillation: where the sides of boxes are, for heads with a distribution.

    `student` are logits (..., 4, bins), `score` the student's largest class probability (...), both
    by names of a `Reader`; `mask` the positive ones. The authors' weight is on the mean over bins,
    not divided by the scores: (sum of scores)/bins times this.

    >>> ld(mask="data:positive").parts()
    ['ld[sides]']
    """
    given = {"score": score, **masked(mask)}
    return weight * Match(losses.ld, student, theirs, given=given, temperature=temperature)


def bckd(
    logits: str = "logits",
    boxes: str = "boxes",
    *,
    beta: float = 1.0,
    mask: str | None = None,
    weight: Weight = 1.0,
    box_weight: Weight = 4.0,
) -> Objective:
    """Sigmoid classes, each by how far apart it is, and overlaps of boxes where classes disagree.

    `logits` (..., K) and decoded `boxes` (..., 4) of the same anchors are signals of both sides.
    The authors divide both by the number of positive anchors; here the first is divided by all
    that count, the second by its weights.

    >>> bckd().parts()
    ['bckd_cls[logits]', 'bckd_giou[boxes]']
    """
    scores = {"s_logits": f"student:{logits}", "t_logits": f"teacher:{logits}"}
    classes = Match(losses.bckd_cls, logits, given=masked(mask), beta=beta)
    overlap = Match(losses.bckd_giou, boxes, given=scores | masked(mask))
    return weight * classes + box_weight * overlap


def crosskd(
    features: tuple[str, str],
    theirs: tuple[str, str] | None = None,
    *,
    head: tuple[nn.Module, nn.Module],
    mask: str | None = None,
    classes: float = 1.0,
    sides: float = 4.0,
    weight: Weight = 1.0,
) -> Objective:
    """Cross-head distillation: the source's head reads the student's features.

    For heads with a distribution for each side. The authors divide the class part by the number of
    positive anchors; the weights are those of GFL.

    >>> head = nn.Conv2d(8, 80, 1), nn.Conv2d(8, 68, 1)
    >>> crosskd(("cls.3", "reg.3"), head=head).parts()
    ['crosskd.classes[cls.3]', 'crosskd.sides[reg.3]']
    """
    term = CrossKD(features, theirs, head=head, mask=mask, classes=classes, sides=sides)
    return weight * term


def score_weighted_l2(
    student: str,
    theirs: str | None = None,
    *,
    logits: str,
    weight: Weight = 6.0,
) -> Objective:
    """Squared difference of a level where the source sees objects.

    `logits` is the signal of the source's class logits at this level, (B, K, H, W). The package
    ultralytics multiplies by the batch size besides, as it does all its losses.

    >>> score_weighted_l2("neck.0", logits="teacher:head.cls.0").parts()
    ['score_weighted_l2[neck.0]']
    """
    given = {"logits": logits}
    project = projectors.twice
    return weight * Match(losses.score_weighted_l2, student, theirs, project=project, given=given)


def pixels(
    student: str, theirs: str | None, mask: str | None, temperature: float | Schedule = 1.0
) -> Match:
    """KL of maps of classes."""
    given = masked(mask)
    return Match(losses.kl, student, theirs, given=given, axis=1, temperature=temperature)


def masked(mask: str | None) -> dict[str, str]:
    return {} if mask is None else {"mask": mask}


def segmented(truth_weight: Weight, term: Objective, student: str) -> Objective:
    """The labels of pixels and a method's own term; at weight 0 the labels are left out."""
    if truth_weight == 0:
        return term
    labels = Truth(losses.cross_entropy, student, "target", source="data", name="truth", axis=1)
    return truth_weight * labels + term
