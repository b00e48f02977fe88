"""Is the student better because of its teacher? Arms, seeds, paired differences, a verdict."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.checkpoint import write_text
from limbeck.errors import LimbeckError
from limbeck.tasks import CLASSIFICATION, Measure, Task, measured
from limbeck.trackers import read_lines

Runner = Callable[[str, int, Path], None]
Verdict = Literal["gain", "no gain shown", "loss"]
TOP1 = CLASSIFICATION.headline


@dataclass(frozen=True)
class Outcome:
    """What one run of one arm came to, on the images that nothing was chosen by."""

    seed: int
    folder: str
    scores: dict[str, float]
    seconds: float
    steps: int
    images: int
    student: str | None = None  # of a run of several

    def row(self) -> dict[str, Any]:
        """As `compare.json` has it."""
        where = {"seed": self.seed, "folder": self.folder}
        where |= {} if self.student is None else {"student": self.student}
        cost = {"seconds": self.seconds, "steps": self.steps, "images": self.images}
        return {**where, **self.scores, **cost}


@dataclass(frozen=True)
class Gain:
    """Paired differences of `arm` to another, above 0 where it is better; 95 % interval."""

    arm: str
    against: str
    per_seed: list[float]
    mean: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Verdict:
        """`gain` where the interval lies above 0, `loss` below, and else nothing was shown."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no gain shown"
        return "gain" if self.low > 0 else "loss"

    def interval(self, measure: Measure = TOP1) -> str:
        """The interval in words."""
        if self.low is None or self.high is None:
            return "one seed, no interval"
        return f"95 % interval {measure.signed(self.low)} to {measure.signed(self.high)}"

    def text(self, measure: Measure = TOP1) -> str:
        """The verdict in one line."""
        verb = {"gain": "beats", "loss": "loses to", "no gain shown": "against"}[self.verdict]
        by = measure.difference(self.mean)
        if self.verdict == "loss":
            by = measure.difference(-self.mean).removeprefix("+")
        return (
            f"{self.verdict}: {self.arm} {verb} {self.against} by {by} "
            f"({self.interval(measure)}, seeds: {len(self.per_seed)}"
            f"{'' if measure.higher else '; + is better'})"
        )


def gain(arm: str, against: str, ours: Sequence[float], theirs: Sequence[float]) -> Gain:
    """Student's t interval of the paired differences; one pair alone shows nothing.

    >>> g = gain("distilled", "labels only", [0.9, 0.92, 0.91], [0.86, 0.87, 0.88])
    >>> round(g.mean, 4), round(g.low, 4), round(g.high, 4), g.verdict
    (0.04, 0.0152, 0.0648, 'gain')
    """
    pairs = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return Gain(arm, against, pairs, mean, None, None)
    half = t_quantile(len(pairs) - 1) * statistics.stdev(pairs) / math.sqrt(len(pairs))
    return Gain(arm, against, pairs, mean, mean - half, mean + half)


def t_quantile(freedom: int, level: float = 0.975) -> float:
    """The quantile of Student's t distribution, by bisection of its integrated density.

    >>> [round(t_quantile(n), 3) for n in (1, 2, 4, 30)]
    [12.706, 4.303, 2.776, 2.042]
    """
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    scale /= math.sqrt(freedom * math.pi)

    def above_half(x: float, steps: int = 2000) -> float:
        # The integral from 0 to x, after x = sqrt(freedom) tan(a): a bounded, smooth integrand.
        end = math.atan(x / math.sqrt(freedom))
        width = end / steps
        values = [math.cos((i + 0.5) * width) ** (freedom - 1) for i in range(steps)]
        return scale * math.sqrt(freedom) * width * sum(values)

    low, high = 0.0, 1e4
    while high - low > 1e-9 * (1 + low):
        middle = (low + high) / 2
        low, high = (middle, high) if above_half(middle) < level - 0.5 else (low, middle)
    return low


def compare(
    arms: Sequence[str],
    seeds: Sequence[int],
    run: Runner,
    out: Path,
    *,
    baseline: str,
    subject: str,
    recipe: str,
    task: Task = CLASSIFICATION,
    students: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs every arm with every seed, and judges.

    Args:
        arms: their names.
        seeds: the same for every arm, so that differences are paired.
        run: brings an arm with a seed to its end in a folder, from where an earlier call left it.
        out: the comparison's folder; `compare.json` is written there.
        baseline, subject: the two arms of the verdict.
        recipe: a name for the report.
        task: whose headline score decides.
        students: of each run, where it trains several: each is compared with itself in another
            arm, as an arm of its own (`"mutual, a"`), and the verdict is about the first.

    Returns:
        What `compare.json` holds.
    """
    each = [*students] or [None]
    outcomes = {of_student(arm, student): list[Outcome]() for arm in arms for student in each}
    for seed in seeds:
        for arm in arms:
            folder = out / "arms" / slug(arm) / f"seed-{seed}"
            run(arm, seed, folder)
            for student in each:
                found = outcome(folder, seed, out, task, student)
                outcomes[of_student(arm, student)].append(found)
    measure = task.headline
    pairs = [pair for student in each for pair in pairs_of(arms, baseline, subject, student)]
    first = of_student(subject, each[0]), of_student(baseline, each[0])
    document = judged(outcomes, pairs, first, measure)
    document |= models(outcomes[first[0]], out, measure)
    document |= {"recipe": recipe, "seeds": list(seeds)}
    write_text(out / "compare.json", json.dumps(document, indent=1) + "\n")
    return document


def of_student(arm: str, student: str | None) -> str:
    """The name of what one student, or the ensemble of all, came to in an arm."""
    return arm if student is None else f"{arm}, {student}"


def pairs_of(
    arms: Sequence[str], baseline: str, subject: str, student: str | None = None
) -> list[tuple[str, str]]:
    """Which arms are compared, those of one student with one another.

    >>> pairs_of(["labels only", "mutual"], "labels only", "mutual", "a")
    [('mutual, a', 'labels only, a')]
    """
    others = [arm for arm in arms if arm not in (baseline, subject)]
    pairs = [(arm, baseline) for arm in arms if arm != baseline]
    pairs += [(subject, arm) for arm in others]
    return [(of_student(a, student), of_student(b, student)) for a, b in pairs]


def judged(
    outcomes: Mapping[str, Sequence[Outcome]],
    pairs: Sequence[tuple[str, str]],
    first: tuple[str, str],
    measure: Measure,
) -> dict[str, Any]:
    """Means, deviations, the paired differences of `pairs`, and the verdict on the `first`."""
    key, sign = measure.key, measure.sign
    scores = {arm: [sign * o.scores[key] for o in runs] for arm, runs in outcomes.items()}
    gains = [gain(arm, other, scores[arm], scores[other]) for arm, other in pairs]
    verdict, (subject, baseline) = gains[pairs.index(first)], first
    return {
        "metric": key,
        "baseline": baseline,
        "subject": subject,
        "verdict": {"kind": verdict.verdict, "text": verdict.text(measure)},
        "arms": {arm: summary(runs, key) for arm, runs in outcomes.items()},
        "gains": [asdict(g) for g in gains],
    }


def models(runs: Sequence[Outcome], out: Path, measure: Measure) -> dict[str, Any]:
    """The score of the teacher of each seed, and what teacher and student cost."""
    documents = [evaluation(out / run.folder) for run in runs]
    teachers = [document["teacher"] for document in documents if document["teacher"]]
    found: dict[str, Any] = {"student": cost_in(documents[0]), "teacher": None}
    if teachers:
        scores = [teacher[measure.key] for teacher in teachers]
        pairs = [{"seed": r.seed, measure.key: s} for r, s in zip(runs, scores, strict=True)]
        mean = statistics.fmean(scores)
        found["teacher"] = {"runs": pairs, "mean": mean, **cost_in(teachers[0])}
    return found


def cost_in(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("parameters", "flops", "bytes", "latency_ms")}


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def summary(runs: Sequence[Outcome], key: str) -> dict[str, Any]:
    scores = [run.scores[key] for run in runs]
    return {
        "runs": [run.row() for run in runs],
        "mean": statistics.fmean(scores),
        "std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
        "seconds": statistics.fmean(run.seconds for run in runs),
    }


def finished(folder: Path) -> bool:
    return (folder / "evaluation.json").exists()


def outcome(folder: Path, seed: int, out: Path, task: Task, student: str | None = None) -> Outcome:
    """Reads a finished run; of several students what one of them came to, or all together."""
    document = evaluation(folder)
    if student is not None:
        document = {**document["students"], "ensemble": document["ensemble"]}[student]
    if document[task.headline.key] is None:
        raise LimbeckError(
            f"{folder} must have a value of {task.headline.label} to be compared by, which its "
            "test images do not give; name others"
        )
    lines = read_lines(folder / "metrics.jsonl")
    done = next((line for line in lines if line["kind"] == "done"), None)
    if done is None:
        raise LimbeckError(f"{folder} must hold a finished run; remove it and compare again")
    return Outcome(
        seed=seed,
        folder=str(folder.relative_to(out)),
        scores={key: document[key] for key in task.kept},
        seconds=done["seconds"],
        steps=done["step"],
        images=done["images"],
        student=student,
    )


def slug(arm: str) -> str:
    """An arm's name as a folder's.

    >>> slug("hard pseudo-labels")
    'hard-pseudo-labels'
    """
    return "-".join(arm.lower().split())


def table(document: Mapping[str, Any]) -> str:
    """The comparison as text: the verdict first."""
    arms, measure = document["arms"], measured([document["metric"]]).headline
    factor, form = measure.factor, ".2f" if measure.percent else measure.form
    head = f"{measure.label} %" if measure.percent else measure.label
    width = max(len(arm) for arm in arms)
    lines = [document["verdict"]["text"], ""]
    means = {
        arm: f"{factor * row['mean']:{form}} ± {factor * row['std']:{form}}"
        for arm, row in arms.items()
    }
    wide = max(14, *map(len, means.values()))
    lines.append(f"{'arm':<{width}}  {head:<{wide}}  per seed")
    for arm, row in arms.items():
        seeds = " ".join(f"{factor * run[measure.key]:{form}}" for run in row["runs"])
        lines.append(
            f"{arm:<{width}}  {means[arm]:<{wide}}  {seeds}   {row['seconds']:.1f} s a run"
        )
    lines.append("")
    for g in (Gain(**fields) for fields in document["gains"]):
        difference = f"{measure.difference(g.mean)} ({g.interval(measure)})"
        pair = (g.arm, g.against) if measure.higher else (g.against, g.arm)
        lines.append(f"{' - '.join(pair)}: {difference}")
    return "\n".join(lines)
