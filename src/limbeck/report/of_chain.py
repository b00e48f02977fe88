"""The stages of a chain beside one another."""

from limbeck.report.page import Cell, Section, Table, TableRow
from limbeck.report.records import Chain, ChainStage
from limbeck.report.words import MISSING, count, score, seconds, short
from limbeck.tasks import Measure


def stages(chain: Chain | None, measure: Measure) -> Section:
    """A row for each stage in the order of training, then all of them together."""
    if chain is None:
        return Section("Stages")
    last, together = len(chain.stages) - 1, chain.ensemble
    rows = [row(stage, measure, strong=n == last) for n, stage in enumerate(chain.stages)]
    rows += [] if together is None else [row(together, measure, strong=False)]
    columns = ["Stage", "Taught by", measure.label, "Parameters", "Steps", "Training"]
    return Section("Stages", tables=[Table("The chain", columns, rows)])


def row(stage: ChainStage, measure: Measure, *, strong: bool) -> TableRow:
    """Who taught a stage, how good it is, what it took."""
    trained = stage.steps is not None
    cells = [
        (", ".join(stage.teachers) or "labels") if trained else MISSING,
        score(measure, stage.of(measure)),
        short(stage.parameters),
        count(stage.steps),
        seconds(stage.seconds) if trained else MISSING,
    ]
    return TableRow(stage.name, [Cell(cell) for cell in cells], strong)
