"""From a recipe to the objects that it names."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from limbeck.check.answers import called
from limbeck.checkpoint import load_weights
from limbeck.data import Images, Loader, carve, derive, open_images, same_classes, withhold
from limbeck.distiller import Distiller
from limbeck.errors import LimbeckError
from limbeck.exits import without
from limbeck.inputs import Preprocess
from limbeck.models import (
    ClassMap,
    build,
    check_classes,
    fresh_head,
    preprocess_of,
    suspicious_weights,
)
from limbeck.modes import evaluating
from limbeck.objective import Objective
from limbeck.reader import Reader
from limbeck.recipe.branches import with_branches
from limbeck.recipe.exits import with_exits
from limbeck.recipe.images import Data
from limbeck.recipe.networks import Model, Teacher
from limbeck.recipe.optimizing import device_of, optimised
from limbeck.recipe.schema import Recipe
from limbeck.recipe.sources import sources_of, sources_of_each
from limbeck.recipe.students import mutual, readers_of
from limbeck.recipe.text import dump
from limbeck.schemes.guided import dense
from limbeck.sources import Frozen, Recorded, Source
from limbeck.taps import describe
from limbeck.tasks import CLASSIFICATION, Task
from limbeck.train import Job, Learner, Training
from limbeck.train.job import prepare
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run

log = logging.getLogger("limbeck")


@dataclass(frozen=True)
class Splits:
    """The images that a recipe trains on, chooses by, and is judged on."""

    train: Images
    valid: Images
    test: Images


def open_splits(data: Data, seed: int, task: Task = CLASSIFICATION) -> Splits:
    """The splits of a recipe, labels withheld as it says."""

    def opened(name: str) -> Images:
        images = open_images(
            name,
            image_size=data.image_size,
            skip_corrupt=data.skip_corrupt,
            root=data.root,
            cell=task.cell,
        )
        for path in images.skipped:
            log.warning("skipped %s, which cannot be read", path)
        if images.skipped:
            log.warning("skipped %d files of %s", len(images.skipped), name)
        return images

    train = opened(data.train)
    if data.valid is None:
        train, valid = carve(train, data.valid_fraction, seed=0)
    else:
        valid = opened(data.valid)
    test = valid if data.test is None else opened(data.test)
    same_classes(train, valid)
    same_classes(train, test, "test")
    if data.labels is not None:
        train = withhold(train, data.labels, seed if data.labels_seed is None else data.labels_seed)
    return Splits(train, valid, test)


def network(model: Model, classes: int, seed: int) -> nn.Module:
    """The network of a block, its fresh weights drawn from `seed`."""
    torch.manual_seed(seed)
    made = build(
        model.model,
        classes=model.outputs or classes,
        pretrained=model.pretrained,
        fit_head=model.fit_head,
        options=model.options,
    )
    if model.checkpoint is not None:
        load_weights(made, model.checkpoint, unsafe_pickle=model.unsafe_pickle)
        if model.fit_head:
            fresh_head(made, classes)
    return made


def student_reader(recipe: Recipe, images: Images) -> Reader:
    """The student with its own view of an image."""
    block, classes = recipe.student, len(images.classes)
    made = network(block, classes, derive(recipe.seed, "student"))
    own = preprocess_of(made, block.model, block.pretrained)
    view = block.preprocess(own, recipe.train.channels_last)
    count = outputs(made, view, images)
    if count != classes:
        raise LimbeckError(
            f"the student must answer with the data's {classes} classes, got {count}; "
            "set student.fit_head: true"
        )
    if block.branches is not None:
        inputs, seed = view(images.fetch(torch.arange(min(len(images), 2)))), recipe.seed
        return with_branches(
            made, view, block.branches, seed, inputs, lambda own: network(block, classes, own)
        )
    if block.exits is None:
        return Reader(made, inputs=view)
    torch.manual_seed(derive(recipe.seed, "exits"))
    return with_exits(made, view, block.exits, view(images.fetch(torch.tensor([0]))))


def teacher_source(block: Teacher, recipe: Recipe, images: Images, name: str = "teacher") -> Source:
    """A frozen teacher, its classes mapped to the data's, its answers remembered on request."""
    count = len(block.classes) if block.classes else len(images.classes)
    made = network(block, count, derive(recipe.seed, name))
    own = preprocess_of(made, block.model, block.pretrained)
    view = block.preprocess(own, block.channels_last)
    mapped = mapping(block, outputs(made, view, images), images.classes)
    reason = suspicious_weights(made)
    if reason:
        raise LimbeckError(f"the teacher's weights must be trained ones, but {reason}")
    faster = optimised(made, block, view, images, recipe)
    source: Source = Frozen(
        faster.model,
        inputs=view,
        names={"output": lambda s: mapped(s["output"])} if mapped else None,
        hidden=faster.hidden,
    )
    if block.record and recipe.data.views is not None:
        source = Recorded(source, samples=len(images), views=recipe.data.views)
    return source


def mapping(block: Teacher, count: int, ours: tuple[str, ...]) -> ClassMap | None:
    """The map from the teacher's `count` classes to the data's, or None where they agree."""
    theirs = block.classes or ours
    if count != len(theirs) and (block.classes or block.class_map):
        raise LimbeckError(
            f"teacher.classes must name the teacher's {count} classes in order, got {len(theirs)}"
        )
    if block.class_map is None:
        check_classes(count, ours)
        check_classes(theirs, ours)
        return None
    return ClassMap.from_names(block.class_map, theirs, ours)


def objective_of(recipe: Recipe, sources: Mapping[str, Source], samples: int) -> Objective:
    """The objective, what its methods train besides the student drawn from the seed."""

    def taught_by(name: str) -> Objective:
        modules = sources[name].modules() if name in sources else []
        return recipe.sum(recipe.setting(modules[0] if modules else None, samples))

    torch.manual_seed(derive(recipe.seed, "objective"))
    if recipe.dense is None:
        return taught_by("teacher")
    seed = derive(recipe.seed, "drop")
    return dense(taught_by, recipe.dense.of, drop=recipe.dense.drop, seed=seed)


def outputs(model: nn.Module, view: Preprocess, images: Images) -> int:
    """How many classes a model answers with."""
    with torch.no_grad(), evaluating(model):
        inputs = view(images.fetch(torch.tensor([0])))
        try:
            logits = model(inputs)
        except RuntimeError as error:
            raise LimbeckError(
                f"a model must take images {tuple(inputs.shape)}, got from it: "
                f"{str(error).splitlines()[0]}; mend its options, mean and std, or image_size"
            ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise LimbeckError(
            f"a model must return logits (images, classes), got {describe(logits)}; wrap it in one "
            "that does and name that: package.module:factory"
        )
    return logits.shape[1]


def loader_of(recipe: Recipe, images: Images, ranks: Ranks, settings: Training) -> Loader:
    """Training batches; an epoch has as many steps with labelled images alone as with all."""
    data = recipe.data
    labelled_only = not data.unlabelled and len(images.labelled) < len(images)
    different = settings.batch_size // (2 if data.pairs else 1)
    return Loader(
        images,
        settings.batch_size,
        seed=recipe.seed,
        views_seed=data.views_seed,
        augment=data.augment.augment(),
        strong=None if data.strong is None else data.strong.augment(),
        mix=data.augment.mix(),
        views=data.views,
        students=len(recipe.students or ()) if data.own_views else 1,
        pairs=data.pairs,
        labelled_only=labelled_only,
        steps_per_epoch=max(len(images) // different, 1) if labelled_only else None,
        rank=ranks.rank,
        world=ranks.world,
        workers=data.workers,
    )


@dataclass(frozen=True)
class Built:
    """A recipe's objects."""

    recipe: Recipe
    splits: Splits
    distiller: Learner
    loader: Loader
    device: torch.device

    def rehearse(self) -> None:
        """Raises LimbeckError for what only a batch can tell: shapes that do not fit."""
        prepare(self.distiller, self.loader, torch.device("cpu"), self.recipe.asked)

    def job(self, run: Run, ranks: Ranks) -> Job:
        """The training of the student."""
        return Job(
            self.distiller,
            self.loader,
            self.recipe.train,
            run,
            self.recipe.asked,
            valid=self.splits.valid,
            seed=self.recipe.seed,
            ranks=ranks,
            device=self.device,
            workers=self.recipe.data.workers,
            parts=parts_of(self.recipe),
        )


def parts_of(recipe: Recipe) -> dict[str, list[str] | None]:
    """The networks that the ranks hold in parts, each with its blocks where they are named."""
    return {
        name: None if block.shard is True else block.shard
        for name, block in recipe.networks().items()
        if block.shard is not False
    }


def assemble(recipe: Recipe, ranks: Ranks, splits: Splits | None = None) -> Built:
    """Everything that a recipe names, put together; its images are opened unless they are given."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    splits = splits or open_splits(recipe.data, recipe.seed, recipe.asked)
    return Built(
        recipe,
        splits,
        learner_of(recipe, splits.train),
        loader_of(recipe, splits.train, ranks, recipe.train),
        device_of(recipe.train, ranks),
    )


def learner_of(recipe: Recipe, images: Images) -> Learner:
    """The student with its sources and its objective, or the students with theirs."""

    def ask(name: str, block: Teacher) -> Source:
        return teacher_source(block, recipe, images, name)

    if recipe.students is not None:
        readers = readers_of(recipe, lambda one: student_reader(one, images))
        found = sources_of_each(recipe, readers, images, ask)
        shared = {name: source for name, source in found.items() if isinstance(source, Source)}
        objective = objective_of(recipe, shared, len(images))
        return mutual(recipe, readers, found, objective, images)
    reader = student_reader(recipe, images)
    sources = sources_of(recipe, reader, images, ask)
    return Distiller(reader, sources, objective_of(recipe, sources, len(images)))


def doubts(built: Built) -> list[str]:
    """What about a teacher is probably not meant."""
    found = []
    students = {n: size(without(each)) for n, each in built.distiller.students.items()}
    largest = max(students, key=lambda name: students[name])
    student = students[largest]
    who = f"the student {largest!r}" if built.recipe.students else "the student"
    for name, block in built.recipe.networks().items():
        key = name if block is built.recipe.teacher else f"sources.{name}"
        if not (block.pretrained or block.checkpoint or block.fit):
            found.append(
                f"{called(name)} {block.model} has fresh weights, unless it loads its own: name "
                f"{key}.pretrained, {key}.checkpoint or {key}.fit"
            )
        teacher = sum(map(size, built.distiller.sources[name].modules()))
        if student > teacher:
            found.append(
                f"{who} has {student:,} parameters and {teaching(name)} {teacher:,}: "
                "are they swapped?"
            )
    return found


def teaching(name: str) -> str:
    return "its teacher" if name == "teacher" else called(name)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def open_run(
    recipe: Recipe, folder: Path, ranks: Ranks, *, resume: bool = False, overwrite: bool = False
) -> Run:
    """The run folder of a recipe."""
    return Run(
        folder,
        recipe=dump(recipe),
        writes=ranks.first,
        resume=resume,
        overwrite=overwrite,
        tensorboard=recipe.train.tensorboard,
    )
