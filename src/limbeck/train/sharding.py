"""FSDP2: every rank holds a part of what trains, and its part of the optimizer's state."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from limbeck.distiller import Distiller
from limbeck.errors import LimbeckError, close
from limbeck.ranks import agree
from limbeck.schemes import Mutual
from limbeck.sources import Source

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(distiller: Distiller | Mutual, named: Sequence[str] | None, world: int) -> None:
    """Shards each student's blocks, each student, and the whole with its projectors.

    Every rank begins with the first one's weights, as in DDP. Teachers stay as they are.

    Args:
        distiller: prepared, on its device.
        named: paths of the blocks in each student; found where None.
        world: number of ranks.

    Raises:
        LimbeckError: a path that a student does not have, or that is inside of another.
    """
    from torch.distributed.fsdp import fully_shard

    agree([*distiller.parameters(), *distiller.buffers()])
    mesh = mesh_of(next(distiller.parameters()).device, world)
    teachers = (m for source in distiller.sources.values() for m in source.modules())
    kept = {parameter for module in teachers for parameter in module.parameters()}
    students = distiller.students.values()
    parts = [part for student in students for part in [*blocks(student, named), student]]
    for part in [*parts, distiller]:
        fully_shard(part, mesh=mesh, ignored_params=kept)


def shard_teachers(
    sources: Mapping[str, Source],
    named: Mapping[str, Sequence[str] | None],
    world: int,
    device: torch.device,
) -> None:
    """Shards teachers on their own, each with a root of its own, and puts the parts on a device.

    They must be the same on all ranks, which all ask them equally often. Nothing of them stays
    gathered after a call.

    Args:
        sources: of a distiller, by name; teachers that are whole may be on another device.
        named: of each source that is to be held in parts, paths of its blocks; found where None.
        world: number of ranks.
        device: of the parts.

    Raises:
        LimbeckError: a path that a teacher does not have, or that is inside of another.
    """
    from torch.distributed.fsdp import fully_shard

    mesh = mesh_of(device, world) if named else None
    for name, paths in named.items():
        for model in sources[name].modules():
            for part in [*blocks(model, paths, f"shard of the source {name!r}"), model]:
                fully_shard(part, mesh=mesh, reshard_after_forward=True)


def mesh_of(device: torch.device, world: int) -> "DeviceMesh":
    """All ranks, each with its own device."""
    from torch.distributed.device_mesh import init_device_mesh

    if device.type == "cuda":
        torch.cuda.set_device(device)  # or FSDP2 puts the parts of all ranks on the first
    return init_device_mesh(device.type, (world,))


def blocks(
    model: nn.Module, named: Sequence[str] | None = None, key: str = "train.shard"
) -> list[nn.Module]:
    """The parts of a model whose weights are gathered together, one after another.

    Found are modules of one class that follow one another in a `Sequential` or a `ModuleList`, the
    outermost of them. Weights that a block shares with what is outside of it stay outside.

    >>> layers = [nn.TransformerEncoderLayer(4, 1) for _ in range(3)]
    >>> student = nn.Sequential(nn.Linear(2, 4), nn.ModuleList(layers), nn.Linear(4, 2))
    >>> [type(block).__name__ for block in blocks(student)]
    ['TransformerEncoderLayer', 'TransformerEncoderLayer', 'TransformerEncoderLayer']
    """
    found = repeated(model) if named is None else (module_at(model, path, key) for path in named)
    return [block for block in dict.fromkeys(found) if owns(model, block)]


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


def module_at(model: nn.Module, path: str, key: str) -> nn.Module:
    modules = dict(model.named_modules())
    if path not in modules or path == "":
        names = [name for name in modules if name]
        raise LimbeckError(
            f"{key} must name modules of the model, got {path!r}{close(path, names)}"
        )
    return modules[path]


def owns(model: nn.Module, block: nn.Module) -> bool:
    """Whether a block has weights, and shares none with the rest of the model."""
    inside = set(block.modules())
    rest = (module for module in model.modules() if module not in inside)
    shared = {weight for module in rest for weight in module.parameters(recurse=False)}
    return any(True for _ in block.parameters()) and shared.isdisjoint(block.parameters())
