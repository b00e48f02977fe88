"""The pair on which methods are compared, and how each method is set up for it.

A ResNet-20 teaches a plain network with the same widths and map sizes, so that every method fits.
Weights and temperatures are the defaults of `limbeck.methods`; where a rule in a docstring makes a
weight depend on the size of the maps, the rule is followed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck import Distiller, Frozen, Reader, losses, methods, truth
from limbeck.data import Images, Loader
from limbeck.inputs import Preprocess
from limbeck.methods.factors import Paraphraser
from limbeck.methods.gradients import InputGradient
from limbeck.objective import Objective
from limbeck.signals import Batch, Signals
from limbeck.sources import Recorded
from limbeck.zoo import ResNet, conv_bn

VIEW = Preprocess((0.491, 0.482, 0.447), (0.247, 0.243, 0.262), channels_last=True)
LABELS = "labels only"
HEADLINE = (
    *("kd", "dkd", "nkd", "dist", "lskd"),
    *("fitnet", "at", "ofd", "reviewkd", "simkd"),
    *("rkd", "crd"),
)
MAPS = ("layer1", "layer2", "layer3")
POSITIONS = 8 * 8  # of layer3


class Plain(nn.Module):
    """Four convolutions, 5.2 million multiply-adds at 32 px."""

    def __init__(self, widths: tuple[int, int, int, int] = (16, 16, 32, 64)) -> None:
        super().__init__()
        self.stem = layer(3, widths[0])
        self.layer1 = layer(widths[0], widths[1])
        self.layer2 = layer(widths[1], widths[2], stride=2)
        self.layer3 = layer(widths[2], widths[3], stride=2)
        self.fc = nn.Linear(widths[3], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv_bn(inputs, outputs, stride=stride), nn.ReLU())


@dataclass(frozen=True)
class World:
    """What methods are made from."""

    teacher: ResNet
    images: Images
    batch_size: int
    loader: Loader


def pooled(signals: dict[str, Tensor]) -> Tensor:
    """The input of the classifier."""
    return signals["layer3"].mean((2, 3))


def maps_of_classes(fc: nn.Linear) -> Callable[[dict[str, Tensor]], Tensor]:
    """A map for each class, whose mean is the class's logit but for the bias."""
    return lambda signals: torch.einsum("bchw,kc->bkhw", signals["layer3"], fc.weight)


def names(model: Plain | ResNet) -> dict[str, object]:
    return {"layer3": "layer3", "pooled": pooled, "cams": maps_of_classes(model.fc)}


def distiller(name: str, world: World, student: Plain, recorded: Recorded | None) -> Distiller:
    """A student, the teacher, and one method between them; `recorded` stands in for logits."""
    if name == "jacobian":
        both = (InputGradient(student), Frozen(InputGradient(world.teacher), inputs=first))
        reader = Reader(both[0], inputs=first)
        return Distiller(reader, both[1], OBJECTIVES[name](world))
    source = Frozen(world.teacher, inputs=VIEW, names=names(world.teacher))
    reader = Reader(student, inputs=VIEW, names=names(student))
    if name in (LABELS, *ALONE):
        return Distiller(reader, {}, OBJECTIVES[name](world))
    teacher = source if recorded is None or name not in LOGIT else recorded
    return Distiller(reader, teacher, OBJECTIVES[name](world))


def first(inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The view of the images, and the labels as they are."""
    return VIEW(inputs[0]), inputs[1]


def paraphraser(world: World) -> Paraphraser:
    """Factor transfer's, trained for one epoch on the teacher's last maps."""
    torch.manual_seed(0)
    model, teacher = Paraphraser(64), Frozen(world.teacher, inputs=VIEW)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    for batch in world.loader.epoch(0):
        f = teacher(Batch(batch.images), Signals(), ["layer3"])["layer3"].float()
        losses.hint(model(f), f).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def crd(world: World) -> Objective:
    return methods.crd(len(world.images), "pooled", labels=world.images.labels)


def ofd(world: World) -> Objective:
    norm = world.teacher.layer3[2].first[1]
    return methods.ofd("layer3.0.1", "layer3.2.first", norm=norm)


LOGIT = tuple(row.name for row in methods.ROWS if row.family == "logit")
ALONE = ("sad", "byot_hint")  # the student teaches itself
OBJECTIVES: dict[str, Callable[[World], Objective]] = {
    LABELS: lambda world: 1.0 * truth(),
    **{name: lambda world, name=name: getattr(methods, name)() for name in LOGIT},
    "fitnet": lambda world: methods.fitnet("layer2"),
    "at": lambda world: methods.at("layer3"),
    "nst": lambda world: methods.nst("layer3"),
    "fsp": lambda world: methods.fsp(("layer1", "layer2")),
    "kdsvd": lambda world: methods.kdsvd(("layer1", "layer2")),
    "ft": lambda world: methods.ft("layer3", paraphraser=paraphraser(world)),
    "ab": lambda world: methods.ab("layer3.0.1", "layer3.2.first", truth_weight=1.0),
    "vid": lambda world: methods.vid("layer3"),
    "ofd": ofd,
    "reviewkd": lambda world: methods.reviewkd(MAPS),
    "simkd": lambda world: methods.simkd("layer3", classifier=world.teacher.fc),
    "srrl": lambda world: methods.srrl("layer3", classifier=world.teacher.fc),
    "cat_kd": lambda world: methods.cat_kd("cams"),
    "mgd": lambda world: methods.mgd("layer3", weight=7e-5 * POSITIONS),
    "jacobian": lambda world: methods.jacobian(),
    "byot_hint": lambda world: methods.byot_hint(
        "layer2", "layer3", weight=1e-6 * world.batch_size * POSITIONS
    ),
    "sad": lambda world: methods.sad("layer2", "layer3"),
    "afd": lambda world: methods.afd(MAPS),
    "semckd": lambda world: methods.semckd(MAPS, batch=world.batch_size),
    "vkd": lambda world: methods.vkd("pooled"),
    "srd_logsum": lambda world: methods.srd_logsum("layer3"),
    "srd_correlation": lambda world: methods.srd_correlation("layer3"),
    "rkd": lambda world: methods.rkd("pooled"),
    "pkt": lambda world: methods.pkt("pooled", weight=30_000 / world.batch_size),
    "sp": lambda world: methods.sp("layer3", weight=3_000 / world.batch_size),
    "cc": lambda world: methods.cc("pooled"),
    "ickd": lambda world: methods.ickd("layer3"),
    "irg": lambda world: methods.irg(("stem", "layer1"), ("layer1.0", "layer1.1")),
    "linear_cka": lambda world: methods.linear_cka("pooled"),
    "crd": crd,
}
