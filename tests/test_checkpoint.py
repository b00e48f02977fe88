"""Weights on disk: plain for everyone else, and loaded whole or not at all."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from tests.networks import Convs, Mlp, gradients, hooks, mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, losses
from limbeck.checkpoint import load_weights, read_module, save_state, save_weights
from limbeck.errors import LimbeckError

each = pytest.mark.parametrize
X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Tied(nn.Module):
    """Two names for one tensor, as language models have."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 3)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


class Housed(nn.Module):
    """A plain model whose own part is called as DDP calls what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.module = mlp()


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Equal names, and tensors equal bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def only(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(LimbeckError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def compiled_part(model: Mlp) -> Mlp:
    model.body = torch.compile(model.body)
    return model


WRAPS: dict[str, Callable[[Any], nn.Module]] = {
    "bare": lambda model: model,
    "ddp": DistributedDataParallel,
    "compiled": torch.compile,
    "compiled in ddp": lambda model: DistributedDataParallel(torch.compile(model)),
    "ddp in compiled": lambda model: torch.compile(DistributedDataParallel(model)),
    "a compiled part": compiled_part,
}


@each("kind", WRAPS)
@pytest.mark.usefixtures("ranks")
def test_b082_whatever_wraps_a_student_its_file_is_plain(kind: str, tmp_path: Path) -> None:
    student = mlp(seed=1)
    expected, path = copied(student), tmp_path / "student.safetensors"
    wrapped = WRAPS[kind](student)
    save_weights(wrapped, path)
    fresh = mlp(seed=2)
    fresh.load_state_dict(load_file(path), strict=True)
    assert same(copied(fresh), expected)
    assert only(tmp_path) == ["store", "student.safetensors"]


@each("kind", WRAPS)
@pytest.mark.usefixtures("ranks")
def test_b082_a_plain_file_fills_a_wrapped_student(kind: str, tmp_path: Path) -> None:
    save_weights(mlp(seed=1), tmp_path / "a.safetensors")
    student = WRAPS[kind](mlp(seed=2))
    load_weights(student, tmp_path / "a.safetensors")
    assert all(map(torch.equal, student.state_dict().values(), mlp(seed=1).state_dict().values()))


@each("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "student."])
def test_b082_prefixes_in_a_file_do_not_count(prefix: str, tmp_path: Path) -> None:
    source, path = mlp(seed=1), tmp_path / "a.pt"
    torch.save({prefix + name: value for name, value in source.state_dict().items()}, path)
    target = mlp(seed=2)
    load_weights(target, path)
    assert same(copied(target), copied(source))


def test_b082_a_part_that_is_called_module_keeps_its_name(tmp_path: Path) -> None:
    source, path = Housed(), tmp_path / "a.safetensors"
    save_weights(source, path)
    assert "module.stem.weight" in load_file(path)
    target = Housed()
    nn.init.zeros_(target.module.stem.weight)
    load_weights(target, path)
    assert same(copied(target), copied(source))


def test_a_name_with_and_without_prefix_is_not_loaded_twice(tmp_path: Path) -> None:
    state = mlp().state_dict()
    torch.save(state | {"module.stem.bias": torch.ones(8)}, tmp_path / "a.pt")
    assert "unexpected: module.stem.bias" in refused(load_weights, mlp(), tmp_path / "a.pt")


@each("container", ["state_dict", "model", "student", "model_state_dict"])
def test_b085_a_state_dict_is_found_under_its_usual_names(container: str, tmp_path: Path) -> None:
    source, target, path = mlp(seed=1), mlp(seed=2), tmp_path / "a.pt"
    torch.save({"epoch": 3, container: source.state_dict(), "optimizer": {"lr": 0.1}}, path)
    load_weights(target, path)
    assert same(copied(target), copied(source))


def test_b085_the_state_of_an_interrupted_training_loads_as_a_plain_student(tmp_path: Path) -> None:
    student, path = mlp(4, seed=1), tmp_path / "last.pt"
    hint = Match(losses.hint, "body", project=nn.Linear(4, 8))
    distiller = Distiller(student, mlp(8), hint)
    distiller(X).loss.backward()
    save_state({"step": 1, "distiller": distiller.state_dict(), "average": None}, path)
    fresh = mlp(4, seed=2)
    load_weights(fresh, path)
    assert torch.equal(fresh(X), student(X))
    assert hooks(fresh) == 0


def test_b085_the_average_of_a_training_state_is_what_ships(tmp_path: Path) -> None:
    live, average, path = mlp(seed=1), mlp(seed=2), tmp_path / "last.pt"
    held = {f"student.{name}": value for name, value in live.state_dict().items()}
    save_state({"distiller": held, "average": average.state_dict()}, path)
    fresh = mlp(seed=3)
    load_weights(fresh, path)
    assert same(copied(fresh), copied(average))


@each("training", [True, False])
def test_b124_saving_leaves_the_live_model_as_it_is(training: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Convs().train(training)
    model.act = nn.GELU()
    images = torch.randn(2, 3, 8, 8)
    model(images).sum().backward()
    before, grads, parts = copied(model), gradients(model), list(model.modules())
    save_weights(model, tmp_path / "a.safetensors")
    assert same(copied(model), before)
    assert same(gradients(model), grads)
    assert list(model.modules()) == parts
    assert model.training == training
    reloaded = Convs()
    reloaded.act = nn.GELU()
    load_weights(reloaded, tmp_path / "a.safetensors")
    assert torch.equal(reloaded.eval()(images), model.eval()(images))


def test_tied_tensors_are_written_for_each_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, fresh, path = Tied(), Tied(), tmp_path / "a.safetensors"
    save_weights(source, path)
    fresh.load_state_dict(load_file(path), strict=True)
    assert same(copied(fresh), copied(source))
    assert fresh.head.weight is fresh.embed.weight


def test_a_file_that_names_a_tied_tensor_once_is_complete(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, fresh, path = Tied(), Tied(), tmp_path / "a.safetensors"
    save_model(source, str(path))
    assert len(load_file(path)) == 2
    load_weights(fresh, path)
    assert same(copied(fresh), copied(source))


PLAIN = """
import sys
sys.modules["limbeck"] = None
import torch
from safetensors.torch import load_file
class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3, 3, bias=False)
        self.head = torch.nn.Linear(3, 3)
        self.head.weight = self.embed.weight
model = Tied()
print(model.load_state_dict(load_file(sys.argv[1]), strict=True))
print(model.head(model.embed(torch.ones(3))).tolist())
"""


def test_weights_load_where_limbeck_cannot_be_imported(tmp_path: Path) -> None:
    source, path = Tied(), tmp_path / "a.safetensors"
    save_weights(source, path)
    command = [sys.executable, "-W", "error", "-c", PLAIN, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines == ["<All keys matched successfully>", str(source(torch.ones(3)).tolist())]


def test_tensors_are_written_contiguous(tmp_path: Path) -> None:
    model = Convs().to(memory_format=torch.channels_last)
    model.head.weight = nn.Parameter(torch.randn(4, 3).t())
    expected, path = copied(model), tmp_path / "a.safetensors"
    assert not model.conv.weight.is_contiguous()
    save_weights(model, path)
    assert same(load_file(path), expected)
    assert not model.conv.weight.is_contiguous()


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 1}

    message = refused(save_weights, Extra(2, 2), tmp_path / "a.safetensors")
    assert message == "_extra_state must be a tensor to be kept as weights, got dict"
    assert only(tmp_path) == []


def other_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"head.weight": torch.ones(10, 8), "head.bias": torch.ones(10)}


def without_stem(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state.items() if not name.startswith("stem.")}


def with_more(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state.items()} | {"neck.bias": torch.ones(2)}


MISFITS = [
    (
        other_head,
        "4 of 6 tensors fit; head.weight is (10, 8) in the file and (3, 8) in the model; "
        "head.bias is (10,) in the file and (3,) in the model",
    ),
    (without_stem, "4 of 6 tensors fit; missing: stem.weight, stem.bias"),
    (with_more, "6 of 6 tensors fit; unexpected: neck.bias"),
]


@each(("change", "says"), MISFITS)
@each("suffix", [".safetensors", ".pt"])
def test_a_checkpoint_of_another_shape_says_what_fits_and_changes_nothing(
    change: Callable[..., dict[str, Tensor]], says: str, suffix: str, tmp_path: Path
) -> None:
    path, model = tmp_path / f"other{suffix}", mlp(seed=2)
    state = change(copied(mlp(seed=1)))
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    before = copied(model)
    assert refused(load_weights, model, path) == f"{path} must fit the model: {says}"
    assert same(copied(model), before)


def test_long_lists_of_misfits_are_cut(tmp_path: Path) -> None:
    torch.save({name: torch.ones(1) for name in mlp().state_dict()}, tmp_path / "a.pt")
    assert refused(load_weights, mlp(), tmp_path / "a.pt").endswith("; 3 more shapes differ")
    torch.save({f"{k}": torch.ones(1) for k in range(5)}, tmp_path / "a.pt")
    message = refused(load_weights, mlp(), tmp_path / "a.pt")
    assert message.endswith("and 3 more; unexpected: 0, 1, 2 and 2 more")


def test_not_strict_loads_what_both_sides_have_and_logs_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, model, path = copied(mlp(seed=1)), mlp(seed=2), tmp_path / "a.pt"
    torch.save(without_stem(source), path)
    stem = model.stem.weight.clone()
    with caplog.at_level("INFO", logger="limbeck"):
        load_weights(model, path, strict=False)
    assert torch.equal(model.head.weight, source["head.weight"] + 1)
    assert torch.equal(model.stem.weight, stem)
    assert "missing: stem.weight, stem.bias" in caplog.text


@each("change", [other_head, lambda state: {"neck.bias": torch.ones(2)}])
def test_not_strict_still_needs_equal_shapes_and_a_common_name(
    change: Callable[..., dict[str, Tensor]], tmp_path: Path
) -> None:
    model, path = mlp(), tmp_path / "a.pt"
    before = copied(model)
    torch.save(change(copied(model)), path)
    refused(load_weights, model, path, strict=False)
    assert same(copied(model), before)


class Planted:
    """What a hostile file does when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@each("protocol", [2, 4])
@each("write", ["torch", "pickle"])
def test_a_pickled_checkpoint_is_refused_before_its_code_runs(
    write: str, protocol: int, tmp_path: Path
) -> None:
    path, trace = tmp_path / "a.pt", tmp_path / "trace"
    content = {"model": mlp().state_dict(), "args": Planted(trace)}
    if write == "torch":
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    message = refused(load_weights, mlp(), path)
    assert message == (
        f"{path} is a pickle that can run code; load it with unsafe_pickle: true if you trust it, "
        "or save its state dict as safetensors"
    )
    assert not trace.exists()


@each("content", [lambda model: model, lambda model: {"model": model, "epoch": 3}])
def test_a_pickled_network_loads_when_asked_by_name(content: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, path = nn.Linear(3, 2), tmp_path / "a.pt"
    torch.save(content(source), path)
    assert "unsafe_pickle" in refused(load_weights, nn.Linear(3, 2), path)
    target = nn.Linear(3, 2)
    load_weights(target, path, unsafe_pickle=True)
    assert same(copied(target), copied(source))


def test_read_module_gives_the_whole_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "a.pt")
    assert isinstance(read_module(tmp_path / "a.pt", unsafe_pickle=True), nn.Linear)
    assert "unsafe_pickle" in refused(read_module, tmp_path / "a.pt")


def test_read_module_does_not_take_weights_alone(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "a.pt")
    save_weights(nn.Linear(3, 2), tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        message = refused(read_module, tmp_path / name)
        assert message.endswith("holds no network; build one, then load_weights into it")


@each("name", ["a.safetensors", "a.pt"])
@each("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", b"\xff" * 64])
def test_a_damaged_checkpoint_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    path, model = tmp_path / name, mlp()
    path.write_bytes(content)
    before = copied(model)
    assert str(path) in refused(load_weights, model, path)
    assert str(path) in refused(load_weights, model, path, unsafe_pickle=True)
    assert same(copied(model), before)


@each("name", ["a.safetensors", "a.pt"])
def test_a_missing_checkpoint_is_one_line(name: str, tmp_path: Path) -> None:
    expected = f"a checkpoint must be a file, got {tmp_path / name}"
    assert refused(load_weights, mlp(), tmp_path / name) == expected


@each("content", [{"epoch": 3}, [torch.ones(1)], {"model": {"epoch": 3}}, {}])
def test_a_file_without_named_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert "must hold named tensors" in refused(load_weights, mlp(), tmp_path / "a.pt")
