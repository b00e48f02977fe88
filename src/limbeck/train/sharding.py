"""FSDP2: every rank holds a part of what trains, and its part of the optimizer's state."""

from collections.abc import Iterator, Sequence

from torch import nn

from limbeck.distiller import Distiller
from limbeck.errors import LimbeckError, close
from limbeck.ranks import agree
from limbeck.schemes import Mutual


def shard(distiller: Distiller | Mutual, named: Sequence[str] | None, world: int) -> None:
    """Shards each student's blocks, each student, and the whole with its projectors.

    Every rank begins with the first one's weights, as in DDP. Teachers stay whole.

    Args:
        distiller: prepared, on its device.
        named: paths of the blocks in each student; found where None.
        world: number of ranks.

    Raises:
        LimbeckError: a path that a student does not have, or that is inside of another.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    agree([*distiller.parameters(), *distiller.buffers()])
    mesh = init_device_mesh(next(distiller.parameters()).device.type, (world,))
    teachers = (m for source in distiller.sources.values() for m in source.modules())
    kept = {parameter for module in teachers for parameter in module.parameters()}
    students = distiller.students.values()
    parts = [part for student in students for part in [*blocks(student, named), student]]
    for part in [*parts, distiller]:
        fully_shard(part, mesh=mesh, ignored_params=kept)


def blocks(student: nn.Module, named: Sequence[str] | None = None) -> list[nn.Module]:
    """The parts of a student whose weights are gathered together, one after another.

    Found are modules of one class that follow one another in a `Sequential` or a `ModuleList`, the
    outermost of them. Weights that a block shares with what is outside of it stay outside.

    >>> layers = [nn.TransformerEncoderLayer(4, 1) for _ in range(3)]
    >>> student = nn.Sequential(nn.Linear(2, 4), nn.ModuleList(layers), nn.Linear(4, 2))
    >>> [type(block).__name__ for block in blocks(student)]
    ['TransformerEncoderLayer', 'TransformerEncoderLayer', 'TransformerEncoderLayer']
    """
    found = repeated(student) if named is None else (module_at(student, path) for path in named)
    return [block for block in dict.fromkeys(found) if owns(student, block)]


def repeated(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost repeated modules that are made of others."""
    children = list(module.children())
    kinds = [type(child) for child in children if any(True for _ in child.children())]
    lists = isinstance(module, nn.Sequential | nn.ModuleList)
    for child in children:
        if lists and kinds.count(type(child)) > 1:
            yield child
        else:
            yield from repeated(child)


def module_at(student: nn.Module, path: str) -> nn.Module:
    modules = dict(student.named_modules())
    if path not in modules or path == "":
        names = [name for name in modules if name]
        raise LimbeckError(
            f"train.shard names modules of the student, got {path!r}{close(path, names)}"
        )
    return modules[path]


def owns(student: nn.Module, block: nn.Module) -> bool:
    """Whether a block has weights, and shares none with the rest of the student."""
    inside = set(block.modules())
    rest = (module for module in student.modules() if module not in inside)
    shared = {weight for module in rest for weight in module.parameters(recurse=False)}
    return any(True for _ in block.parameters()) and shared.isdisjoint(block.parameters())
