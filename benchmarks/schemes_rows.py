"""Which arm is compared with which, and what it costs."""

import statistics
from collections.abc import Mapping
from itertools import chain
from typing import Any, NamedTuple

from schemes_self import BORN_AGAIN, TIMES
from schemes_world import PEERS, STUDENT

from limbeck.compare import gain

SELF, TEACHERS, MUTUAL, CHAINS = (
    "A student that teaches itself",
    "Several teachers",
    "Students that teach one another",
    "Assistants",
)
LABELS, LONGER, APART = "labels only", "three times as long", "apart"
TAUGHT_BEST = "kd from wide"  # of single teachers, by its students' held-out images
TOGETHER = (
    *("mean of probabilities", "mean of logits", "ebkd", "ca-mkd", "ae-kd", "amtml"),
    *("weighed by class", "drawn", "routed"),
)
Who = tuple[str, str]  # an arm, and which of its networks
Runs = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by arm and seed
Costs = Mapping[str, Mapping[str, float]]


class Row(NamedTuple):
    """A line of the table: who is compared with whom.

    `trained` are all trainings that it takes, teachers apart, by the names under which they are
    timed.
    """

    family: str
    name: str
    ours: Who
    against: str
    theirs: Who
    trained: tuple[str, ...]


def of(family: str, arm: str, against: str = LABELS, who: str = STUDENT) -> Row:
    """One network of an arm with one training, against that of another."""
    name = arm if who == STUDENT else f"{arm}, {who}"
    return Row(family, name, (arm, who), against, network(against), (arm,))


def network(name: str) -> Who:
    """The network of a baseline; that of labels only is the first of those that learn apart."""
    if name == LABELS:
        return APART, PEERS[0]
    arm, _, who = name.partition(", ")
    return arm, who or STUDENT


def ensemble(count: int) -> Row:
    """What labels alone come to with several networks."""
    name = f"ensemble of {count}"
    return Row(MUTUAL, f"{name}, apart", (APART, name), LABELS, network(LABELS), count * (LABELS,))


def peers(arm: str) -> list[Row]:
    """Two students and their ensemble, each against its like that learned apart."""
    pairs = [*((peer, peer) for peer in PEERS[:2]), ("ensemble", "ensemble of 2")]
    return [
        Row(MUTUAL, f"{arm}, {ours}", (arm, ours), f"{theirs}, apart", (APART, theirs), (arm,))
        for ours, theirs in pairs
    ]


def jointly(arm: str, count: int) -> Row:
    """An ensemble against that of as many students that learned apart."""
    theirs = f"ensemble of {count}"
    name = f"{arm}, ensemble"
    return Row(MUTUAL, name, (arm, "ensemble"), f"{theirs}, apart", (APART, theirs), (arm,))


def born_again(who: str, against: str, theirs: Who, count: int) -> Row:
    trained = tuple(f"born-again, {stage.name}" for stage in BORN_AGAIN[:count])
    return Row(SELF, f"born-again, {who}", ("born-again", who), against, theirs, trained)


def chained(who: str, against: str) -> Row:
    trained = ("assistants, assistant-1", f"assistants, {who}")
    return Row(CHAINS, who, ("assistants", who), against, network(against), trained)


def among(arm: str) -> list[Row]:
    """Several teachers against the one that knows most, and the one whose student is best."""
    return [of(TEACHERS, arm, "kd"), of(TEACHERS, arm, TAUGHT_BEST)]


ROWS: tuple[Row, ...] = (
    of(SELF, "label smoothing"),
    of(SELF, "averaged weights", who="average"),
    of(SELF, LONGER)._replace(trained=TIMES * (LABELS,)),
    of(SELF, "tf-kd"),
    of(SELF, "tf-kd", "label smoothing"),
    of(SELF, "ps-kd"),
    of(SELF, "ps-kd", "label smoothing"),
    of(SELF, "half of each batch again"),
    of(SELF, "dlb", "half of each batch again"),
    of(SELF, "mean teacher"),
    of(SELF, "mean teacher", "averaged weights, average", "average"),
    of(SELF, "two views"),
    of(SELF, "ddgsd", "two views"),
    of(SELF, "cs-kd"),
    of(SELF, "cs-kd", "label smoothing"),
    of(SELF, "an eighth of the labels"),
    of(SELF, "fixmatch", "its labels alone"),
    of(SELF, "fixmatch", "an eighth of the labels"),
    of(SELF, "deep supervision"),
    of(SELF, "byot", "deep supervision"),
    of(SELF, "sad"),
    born_again("generation-1", LABELS, network(LABELS), 2),
    born_again("generation-2", LABELS, network(LABELS), 3),
    born_again("generation-2", LONGER, (LONGER, STUDENT), 3),
    born_again("ensemble", "ensemble of 3, apart", (APART, "ensemble of 3"), 3),
    of(TEACHERS, "kd"),
    of(TEACHERS, TAUGHT_BEST, "kd"),
    of(TEACHERS, "kd from plain", "kd"),
    *chain.from_iterable(map(among, TOGETHER)),
    *map(ensemble, (2, 3, 4)),
    *chain.from_iterable(
        map(peers, ("dml", "kdcl naive", "kdcl linear", "kdcl minlogit", "kdcl general"))
    ),
    of(MUTUAL, "branches", LABELS, "branch"),
    of(MUTUAL, "one", LABELS, "branch"),
    of(MUTUAL, "one", "branches, branch", "branch"),
    of(MUTUAL, "one", "branches, ensemble", "ensemble"),
    jointly("one", 3),
    of(MUTUAL, "okddip", LABELS, "leader"),
    jointly("okddip", 4),
    chained("takd", "kd"),
    chained("takd", TAUGHT_BEST),
    chained("dgkd", "kd"),
    chained("dgkd", TAUGHT_BEST),
)


def judged(runs: Runs, costs: Costs) -> list[dict[str, Any]]:
    """The rows whose both sides have been trained with some seed, paired by seed."""
    found = []
    for row in ROWS:
        ours, theirs = (runs.get(arm, {}) for arm, _ in (row.ours, row.theirs))
        seeds = sorted(ours.keys() & theirs.keys())
        if seeds:
            found.append(line(row, *scores(row, runs, seeds)) | cost(row, costs))
    return found


def scores(row: Row, runs: Runs, seeds: list[str]) -> tuple[list[float], list[float]]:
    """Points of accuracy on the test images, of both sides."""
    ours, theirs = (
        [100 * runs[arm][seed]["scores"][who]["test"] for seed in seeds]
        for arm, who in (row.ours, row.theirs)
    )
    return ours, theirs


def line(row: Row, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """A row in numbers; an interval from two seeds on."""
    found = gain(row.name, row.against, ours, theirs)
    return {
        "family": row.family,
        "name": row.name,
        "against": row.against,
        "ours": round(statistics.fmean(ours), 3),
        "theirs": round(statistics.fmean(theirs), 3),
        "gain": round(found.mean, 3),
        "low": None if found.low is None else round(found.low, 3),
        "high": None if found.high is None else round(found.high, 3),
        "seeds": len(ours),
        "verdict": found.verdict,
    }


def cost(row: Row, costs: Costs) -> dict[str, float | None]:
    """Time of all trainings over that of labels only, and the most that a step of them holds."""
    if not costs.keys() >= {*row.trained}:
        return {"time": None, "mib": None}
    found = [costs[name] for name in row.trained]
    return {
        "time": round(sum(each["time"] for each in found), 2),
        "mib": round(max(each["mib"] for each in found), 1),
    }
