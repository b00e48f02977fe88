"""Methods on relations: how a network relates the samples of a batch, not what it says of one.

`student` and `theirs` are signals, the same name unless said: by custom the input of the
classifier. Widths may differ. Weights are the authors', in the units of `limbeck.losses`; where the
size of the batch B stands between, the default is for B = 64 and the docstring has the rule.
"""

from torch import Tensor, nn

from limbeck import losses, projectors
from limbeck.dials import Weight
from limbeck.methods.common import objective
from limbeck.methods.contrast import CRD
from limbeck.objective import Match, Objective
from limbeck.projectors import Factory


def rkd(
    student: str,
    theirs: str | None = None,
    *,
    samples: int | None = None,
    distance_weight: Weight = 25.0,
    angle_weight: Weight = 50.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Relational distillation: distances between samples, and angles among them.

    `samples` triples stand for all B^3 in the angles. The authors average over B^2 and B^3 entries:
    (B - 1)/B and (B - 1)(B - 2)/B^2 times `rkd_distance` and `rkd_angle`, 2 % and 5 % less.

    >>> rkd("avgpool").parts()
    ['truth', 'rkd_distance[avgpool]', 'rkd_angle[avgpool]']
    """
    distance = Match(losses.rkd_distance, student, theirs)
    angle = Match(losses.rkd_angle, student, theirs, samples=samples)
    return objective(truth_weight, distance_weight * distance + angle_weight * angle)


def pkt(
    student: str,
    theirs: str | None = None,
    *,
    weight: Weight = 468.75,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Probabilistic knowledge transfer: whom a sample would take for its neighbour.

    The weight is 30000 on the authors' mean over B^2 entries: 30000/B here.

    >>> pkt("avgpool").parts()
    ['truth', 'pkt[avgpool]']
    """
    return objective(truth_weight, weight * Match(losses.pkt, student, theirs))


def sp(
    student: str,
    theirs: str | None = None,
    *,
    weight: Weight = 46.875,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Similarity-preserving distillation: which samples are alike; by custom of the last maps.

    The weight is 3000 on the paper's sum over B^2: 3000/B here.

    >>> sp("layer4").parts()
    ['truth', 'sp[layer4]']
    """
    return objective(truth_weight, weight * Match(losses.sp, student, theirs))


def cc(
    student: str,
    theirs: str | None = None,
    *,
    gamma: float = 0.4,
    order: int = 2,
    weight: Weight = 100.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Correlation congruence: a Gaussian kernel between samples.

    The weight is that of a PyTorch port of the paper's formula (CIFAR); 0.02 belongs to another
    loss that is passed on under this name.

    >>> cc("avgpool").parts()
    ['truth', 'cc[avgpool]']
    """
    term = Match(losses.cc, student, theirs, gamma=gamma, order=order)
    return objective(truth_weight, weight * term)


def ickd(
    student: str,
    theirs: str | None = None,
    *,
    project: Factory | nn.Module = projectors.normed,
    weight: Weight = 2.5,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Inter-channel correlation: how the channels of the last maps relate to one another.

    The weight is the authors' for CIFAR-100, where they add `kd`.

    >>> ickd("layer4").parts()
    ['truth', 'ickd[layer4]']
    """
    term = Match(losses.ickd, student, theirs, project=project)
    return objective(truth_weight, weight * term)


def irg(
    student: tuple[str, str],
    theirs: tuple[str, str] | None = None,
    *,
    vertex_weight: Weight = 0.1,
    edge_weight: Weight = 5.0,
    transform_weight: Weight = 5.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Instance relationship graph: logits, distances between samples, moves between two layers.

    `student` names the earlier and the later layer, which must have as many channels: two blocks of
    a stage. Edges are those of the later one. Classes must be the same. The weights are those of a
    PyTorch port (CIFAR-10); the authors' own code is Caffe.

    >>> irg(("layer4.0", "layer4.1")).parts()
    ['truth', 'irg_vertex', 'irg_edge[layer4.1]', 'irg_transform[layer4.0]']
    """
    (early, late), (their_early, their_late) = student, theirs or student
    given = {"s_next": f"student:{late}", "t_next": f"teacher:{their_late}"}
    vertex = Match(losses.hint, axis=-1, name="irg_vertex")
    edge = Match(losses.irg_edge, late, their_late)
    transform = Match(losses.irg_transform, early, their_early, given=given)
    graph = vertex_weight * vertex + edge_weight * edge + transform_weight * transform
    return objective(truth_weight, graph)


def linear_cka(
    student: str,
    theirs: str | None = None,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Centred kernel alignment: the geometry of a batch, up to rotation, shift and scale.

    A measure of likeness turned into a loss; no authors' weight exists.

    >>> linear_cka("avgpool").parts()
    ['truth', 'linear_cka[avgpool]']
    """
    return objective(truth_weight, weight * Match(losses.linear_cka, student, theirs))


def crd(
    samples: int,
    student: str,
    theirs: str | None = None,
    *,
    labels: Tensor | None = None,
    width: int = 128,
    negatives: int = 16384,
    temperature: float = 0.07,
    momentum: float = 0.5,
    seed: int = 0,
    weight: Weight = 0.8,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Contrastive distillation: a sample's embedding against a memory of thousands of others.

    `samples` is the size of the data, whose `ids` every batch brings; `labels`, their classes, keep
    samples of one class from being negatives of each other, as in the authors' loader. The memories
    take 8 * samples * width bytes; see `CRD`. The weight is the authors' for CIFAR-100.

    >>> crd(50_000, "avgpool").parts()
    ['truth', 'crd[avgpool]']
    """
    term = CRD(
        samples,
        student,
        theirs,
        labels=labels,
        width=width,
        negatives=negatives,
        temperature=temperature,
        momentum=momentum,
        seed=seed,
    )
    return objective(truth_weight, weight * term)
