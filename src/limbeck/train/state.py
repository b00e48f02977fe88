"""What a training keeps, so that it can go on as if it had never stopped."""

from typing import TYPE_CHECKING, Any

from limbeck.train import shards

if TYPE_CHECKING:
    from limbeck.train.loop import Trainer


def state_of(trainer: "Trainer") -> dict[str, Any]:
    """All that resuming needs; order, augmentation and dropout follow from the step."""
    distiller, optimizer = trainer.distiller, trainer.optimizer
    large = (
        {"optimizer": shards.small_state(optimizer)}
        if trainer.settings.parallel == "fsdp"
        else {"distiller": distiller.state_dict(), "optimizer": optimizer.state_dict()}
    )
    return {
        **large,
        "step": trainer.step,
        "best": trainer.best,
        "seconds": trainer.seconds,
        "sources": {name: source.state_dict() for name, source in distiller.sources.items()},
        "scaler": trainer.scaler.state_dict(),
        "average": alone({n: a.model.state_dict() for n, a in trainer.averages.items()}),
    }


def restore(trainer: "Trainer") -> None:
    """Goes on from the run's last checkpoint."""
    run, ranks = trainer.job.run, trainer.job.ranks
    state = ranks.from_first(run.load)
    trainer.step, trainer.best, trainer.seconds = state["step"], state["best"], state["seconds"]
    if "shards" in state:
        folder, sums, small = run.shards(trainer.step), state["shards"], state["optimizer"]
        shards.restore(trainer.distiller, trainer.optimizer, small, folder, sums, ranks)
    else:
        trainer.distiller.load_state_dict(state["distiller"])
        trainer.optimizer.load_state_dict(state["optimizer"])
    for name, source in trainer.distiller.sources.items():
        source.load_state_dict(state["sources"][name])
    trainer.scaler.load_state_dict(state["scaler"])
    several = len(trainer.averages) > 1
    for name, average in trainer.averages.items():
        average.model.load_state_dict(state["average"][name] if several else state["average"])


def alone(states: dict[str, Any]) -> dict[str, Any] | None:
    """The state of the only student, those of several by name, or None."""
    return states if len(states) > 1 else next(iter(states.values()), None)
