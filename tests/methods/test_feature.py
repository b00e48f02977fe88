"""Feature methods: what trains, what is frozen, what is saved, and what ships."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from tests.networks import Convs
from torch import Tensor, nn

from limbeck import Distiller, methods
from limbeck.errors import LimbeckError
from limbeck.methods.factors import Paraphraser
from limbeck.methods.rows_feature import ROWS
from limbeck.objective import Objective

each = pytest.mark.parametrize
Make = Callable[["Net"], Objective]


class Net(Convs):
    """Two stages, so that there is a deeper one, of half the size; the first as tokens too."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.deep = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.cams = nn.Conv2d(width, 3, 1)
        self.tokens = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        f = self.act(self.norm(self.conv(x)))
        self.tokens(f.flatten(2).mT)
        f = self.deep(f)
        return self.head(f.mean((2, 3))) + self.cams(f).mean((2, 3))


def paraphraser(channels: int) -> Paraphraser:
    """The one that was trained, as a file would have it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Paraphraser(channels)


OWN: dict[str, Make] = {  # what owns parameters
    "fitnet": lambda t: methods.fitnet("deep"),
    "ft": lambda t: methods.ft("deep", paraphraser=paraphraser(t.deep.out_channels)),
    "ab": lambda t: methods.ab("norm", truth_weight=1.0),
    "vid": lambda t: methods.vid("act"),
    "ofd": lambda t: methods.ofd("norm", norm=t.norm, weight=1.0),
    "reviewkd": lambda t: methods.reviewkd(["act", "deep"], width=5),
    "simkd": lambda t: methods.simkd("deep", classifier=t.head),
    "srrl": lambda t: methods.srrl("deep", classifier=t.head),
    "mgd": lambda t: methods.mgd("deep"),
    "mgd of positions": lambda t: methods.mgd("act", "deep", positions=True, ratio=0.5),
    "byot_hint": lambda t: methods.byot_hint("act", "deep"),
    "vkd": lambda t: methods.vkd("tokens", "deep"),
    "vkd to fewer": lambda t: methods.vkd("deep", "cams"),
    "srd_logsum": lambda t: methods.srd_logsum("deep"),
    "srd_correlation": lambda t: methods.srd_correlation("deep", "tokens"),
    "afd": lambda t: methods.afd(["act", "deep"], ["deep", "act", "deep"], width=8),
    "semckd": lambda t: methods.semckd(["act", "deep"], batch=6),
}
BARE: dict[str, Make] = {
    "at": lambda t: methods.at("act"),
    "nst": lambda t: methods.nst("deep", "act"),
    "cat_kd": lambda t: methods.cat_kd("cams"),
    "sad": lambda t: methods.sad("act", "deep"),
}
MAKE = OWN | BARE
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 1])


def net(width: int, seed: int) -> Net:
    torch.manual_seed(seed)
    made = Net(width)
    with torch.no_grad():
        made(X)  # statistics of its own
    return made.eval()


def build(name: str, seed: int = 0) -> tuple[Distiller, Net]:
    """A prepared distiller of a narrow student beside a wide teacher."""
    student, teacher = net(4, seed).train(), net(6, 1)
    torch.manual_seed(seed)
    distiller = Distiller(student, teacher, MAKE[name](teacher))
    distiller.prepare(X, target=Y)
    return distiller, teacher


def train(distiller: Distiller, steps: int) -> Tensor:
    """The loss of the last step."""
    optimizer = torch.optim.SGD(distiller.parameters(), 0.01)
    loss = torch.zeros(())
    for step in range(steps):
        torch.manual_seed(step)
        loss = distiller(X, target=Y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_every_method_of_the_index_is_there_by_all_its_names() -> None:
    for row in ROWS:
        function = getattr(methods, row.name)
        assert callable(function), row.name
        assert all(getattr(methods, alias) is function for alias in row.aliases), row.name
    assert {row.name for row in ROWS} - {name.split()[0] for name in MAKE} == {
        "fsp",
        "kdsvd",
        "jacobian",
    }


@each("name", MAKE)
def test_parts_are_positive_and_sum_to_the_loss(name: str) -> None:
    """But for srd's, which are logarithms."""
    distiller, _ = build(name)
    step = distiller(X, target=Y)
    assert list(step.parts) == distiller.objective.parts()
    assert all(part.isfinite() for part in step.parts.values())
    assert all(part > 0 for key, part in step.parts.items() if not key.startswith("srd"))
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach())


@each("name", MAKE)
def test_the_gradient_reaches_the_student_and_what_the_method_owns(name: str) -> None:
    distiller, teacher = build(name)
    before = state(teacher)
    distiller.train()
    parts = distiller.objective(distiller.gather(X, {"target": Y})[1])
    torch.stack([value for part, value in parts.items() if part != "truth"]).sum().backward()
    for parameter in (distiller.student.conv.weight, *distiller.objective.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert distiller.student.conv.weight.grad.count_nonzero() > 0
    assert any(p.grad.count_nonzero() > 0 for p in distiller.objective.parameters()) == (
        name in OWN
    )
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert same(state(teacher), before)
    assert not any(module.training for module in teacher.modules())


@each("name", MAKE)
def test_nothing_of_the_teacher_trains_or_is_saved(name: str) -> None:
    distiller, teacher = build(name)
    theirs = {id(x) for x in (*teacher.parameters(), *teacher.buffers())}
    own = [*distiller.parameters(), *distiller.state_dict(keep_vars=True).values()]
    assert not theirs & {id(x) for x in own}
    assert (len(list(distiller.objective.parameters())) > 0) == (name in OWN)


@each("name", MAKE)
def test_training_lowers_the_loss(name: str) -> None:
    distiller, _ = build(name)
    first = train(distiller, 1)
    train(distiller, 5)
    assert train(distiller, 1) < first


@each("name", OWN)
def test_copies_and_pickles_train_alike(name: str) -> None:
    """PyTorch copies the parametrised weight of vkd, and refuses to pickle it."""
    distiller, _ = build(name)
    copies = [copy.deepcopy(distiller)]
    if not name.startswith("vkd"):
        copies.append(pickle.loads(pickle.dumps(distiller)))
    expected = train(distiller, 2)
    assert all(torch.equal(train(other, 2), expected) for other in copies)


@each("name", OWN)
def test_preparing_twice_keeps_what_was_made(name: str) -> None:
    distiller, _ = build(name)
    before = state(distiller)
    distiller.prepare(X, target=Y)
    assert same(state(distiller), before)


@each("name", ["reviewkd", "simkd", "vid", "mgd", "vkd", "afd", "semckd"])
def test_what_has_no_size_yet_asks_for_prepare(name: str) -> None:
    teacher = net(6, 1)
    distiller = Distiller(net(4, 0), teacher, MAKE[name](teacher))
    with pytest.raises(LimbeckError, match=r"a? size yet; call distiller.prepare\(inputs\)"):
        distiller(X, target=Y)


@each("name", OWN)
def test_a_student_in_double_precision(name: str) -> None:
    teacher = net(6, 1)
    distiller = Distiller(net(4, 0).double(), teacher, MAKE[name](teacher))
    distiller.prepare(X.double(), target=Y)
    step = distiller(X.double(), target=Y)
    step.loss.backward()
    assert step.loss.dtype == torch.float64
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}


@each("name", MAKE)
def test_under_autocast(name: str) -> None:
    distiller, _ = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = distiller(X, target=Y).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@each("name", ["fsp", "kdsvd"])
def test_two_layers_reach_both(name: str) -> None:
    student, teacher = net(6, 0), net(6, 1)
    objective = getattr(methods, name)(("act", "deep"), truth_weight=0)
    step = Distiller(student, teacher, objective)(X)
    step.loss.backward()
    assert list(step.parts) == [f"{name}[act]"]
    for layer in (student.conv, student.deep):
        assert layer.weight.grad.count_nonzero() > 0
    narrow = Distiller(net(4, 0), teacher, objective)
    with pytest.raises(LimbeckError, match="give the student a projector"):
        narrow(X)


def test_layers_add_up_with_one_truth() -> None:
    objective = methods.at("act") + methods.at("deep", truth_weight=0)
    assert objective.parts() == ["truth", "attention[act]", "attention[deep]"]
