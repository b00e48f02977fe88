"""The report of runs and comparisons, made here after the contracts of their JSON."""

import json
import random
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from xml.etree import ElementTree

import pytest

from limbeck.errors import LimbeckError
from limbeck.report import charts, pooled, write_report
from limbeck.report.charts.ink import spread, width
from limbeck.report.charts.scale import Scale, tick_texts, ticks
from limbeck.report.charts.scatter import KEY, overlap, placed
from limbeck.report.collect import Compared, collect
from limbeck.report.history import averaged, history

DIGITS = tuple(str(digit) for digit in range(10))
ARMS = {
    "labels only": 0.862,
    "hard pseudo-labels": 0.905,
    "labelled images": 0.884,
    "distilled": 0.911,
}
STEPS, SEEDS = 310, (0, 1, 2)
Json = dict[str, Any]


def scores(top1: float, seed: int, classes: tuple[str, ...] = DIGITS, each: int = 250) -> Json:
    """An evaluation that a model of this accuracy could have."""
    draw = random.Random(seed)
    matrix = []
    for truth in range(len(classes)):
        right = min(1.0, max(0.0, top1 + 0.03 * draw.gauss(0, 1) - 0.04 * (truth % 3 - 1)))
        others = [draw.random() ** 4 * (guess != truth) for guess in range(len(classes))]
        row = [round(each * (1 - right) * other / sum(others)) for other in others]
        row[truth] = each - sum(row)
        matrix.append(row)
    right = sum(row[i] for i, row in enumerate(matrix))
    names = zip(classes, (row[i] / each for i, row in enumerate(matrix)), strict=True)
    return {
        "split": "test",
        "examples": each * len(classes),
        "top1": right / (each * len(classes)),
        "top5": 0.99,
        "nll": 0.9 * (1 - top1) / 0.3,
        "ece": 0.2 * (1 - top1),
        "per_class": {name: {"top1": value, "count": each} for name, value in names},
        "classes": list(classes),
        "reliability": [reliable(i, top1) for i in range(15)],
        "confusion": matrix,
        "parameters": 51_234,
        "flops": 1_020_000,
        "bytes": 204_936,
        "latency_ms": 0.41,
        "throughput": 52_000.0,
    }


def reliable(index: int, top1: float) -> Json:
    low, high = index / 15, (index + 1) / 15
    if index == 0:
        return {"low": low, "high": high, "count": 0, "confidence": None, "accuracy": None}
    sure = (low + high) / 2
    accuracy = max(0.0, sure - 0.3 * (1 - top1) * (index / 15) - 0.02 * (index % 2))
    return {
        "low": low,
        "high": high,
        "count": 4 + index**3 // 2,
        "confidence": sure,
        "accuracy": accuracy,
    }


def teacher_scores(seed: int, classes: tuple[str, ...] = DIGITS) -> Json:
    costs = {
        "parameters": 421_642,
        "flops": 8.1e6,
        "bytes": 1_686_568,
        "latency_ms": 1.32,
        "throughput": 11_800.0,
    }
    return scores(0.926, seed + 50, classes) | costs


def metrics(top1: float, seed: int, distils: bool) -> str:
    draw = random.Random(seed)
    lines: list[Json] = []
    for step in range(1, STEPS + 1):
        progress = step / STEPS
        truth = 2.3 * (0.06 + 0.94 * (1 - progress) ** 3) + 0.08 * abs(draw.gauss(0, 1))
        parts = {"truth": truth / 2, "kl": 0.8 * truth + 0.2} if distils else {"truth": truth}
        lines.append(
            {
                "kind": "train",
                "step": step,
                "epoch": (step - 1) // 31,
                "progress": progress,
                "loss": sum(parts.values()),
                "parts": parts,
                "lr": 0.1 * min(10 * progress, 1.1 * (1 - progress) + 0.01),
                "images_per_second": 812.0,
            }
        )
        if step % 31 == 0:
            value = top1 - 0.5 * (1 - progress) ** 2 + 0.006 * draw.gauss(0, 1)
            lines.append(
                {"kind": "eval", "step": step, "epoch": step // 31, "split": "valid", "top1": value}
            )
    lines.append({"kind": "done", "step": STEPS, "seconds": 42.1})
    return "".join(json.dumps(line) + "\n" for line in lines)


def make_run(
    folder: Path,
    top1: float = 0.91,
    seed: int = 0,
    classes: tuple[str, ...] = DIGITS,
    distils: bool = True,
) -> Json:
    """A finished run; returns its evaluation."""
    folder.mkdir(parents=True)
    teacher = teacher_scores(seed, classes)
    student = scores(top1, seed, classes)
    evaluation = student | {"teacher": teacher, "agreement": 0.953, "fidelity_kl": 0.0312}
    evaluation["retention"] = student["top1"] / teacher["top1"]
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "metrics.jsonl").write_text(metrics(top1, seed, distils))
    (folder / "recipe.yaml").write_text("data:\n  train: digits:train\n  labels: 200\nseed: 0\n")
    (folder / "environment.json").write_text(
        json.dumps({"versions": {"torch": "2.9.0", "python": "3.11"}, "threads": 2, "seed": seed})
    )
    return evaluation


def arm_record(folder: Path, name: str, top1: float) -> Json:
    runs: list[Json] = []
    for seed in SEEDS:
        where = f"arms/{name.replace(' ', '-')}/seed-{seed}"
        found = make_run(
            folder / where, top1 + 0.003 * (seed - 1), seed, distils=name != "labels only"
        )
        spent = {"seconds": 3.1 + len(name) / 9, "steps": 620, "images": 39_680}
        runs.append(
            {"seed": seed, "folder": where, "top1": found["top1"], "nll": found["nll"]} | spent
        )
    values = [run["top1"] for run in runs]
    seconds = fmean(run["seconds"] for run in runs)
    return {"runs": runs, "mean": fmean(values), "std": stdev(values), "seconds": seconds}


def gain_record(arms: Json, arm: str, against: str) -> Json:
    pairs = zip(arms[arm]["runs"], arms[against]["runs"], strict=True)
    each = [ours["top1"] - theirs["top1"] for ours, theirs in pairs]
    half = 4.303 * stdev(each) / len(each) ** 0.5 + 0.008
    mean = fmean(each)
    ends = {"low": mean - half, "high": mean + half}
    return {"arm": arm, "against": against, "per_seed": each, "mean": mean} | ends


def make_comparison(folder: Path) -> Json:
    """A finished comparison of four arms and three seeds; returns its record."""
    folder.mkdir(parents=True)
    arms = {name: arm_record(folder, name, top1) for name, top1 in ARMS.items()}
    gains = [gain_record(arms, arm, "labels only") for arm in ARMS if arm != "labels only"]
    gains.append(gain_record(arms, "distilled", "hard pseudo-labels"))
    cost = {"parameters": 51_234, "flops": 1_020_000, "bytes": 204_936, "latency_ms": 0.41}
    teachers = [{"seed": seed, "top1": teacher_scores(seed)["top1"]} for seed in SEEDS]
    record = {
        "metric": "top1",
        "seeds": list(SEEDS),
        "recipe": "digits",
        "baseline": "labels only",
        "subject": "distilled",
        "verdict": {
            "kind": "gain",
            "text": "gain: distilled beats labels only by "
            f"+{100 * gains[2]['mean']:.2f} points (95 % interval "
            f"+{100 * gains[2]['low']:.2f} to +{100 * gains[2]['high']:.2f}, 3 seeds)",
        },
        "arms": arms,
        "gains": gains,
        "teacher": {
            "runs": teachers,
            "mean": fmean(run["top1"] for run in teachers),
            "parameters": 421_642,
            "flops": 8.1e6,
            "bytes": 1_686_568,
            "latency_ms": 1.32,
        },
        "student": cost,
    }
    (folder / "compare.json").write_text(json.dumps(record))
    return record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    make_comparison(tmp_path / "comparison")
    return tmp_path / "comparison"


def report(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def headings(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def drawings(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)


def left_out(html: str) -> str:
    return html[html.index(">Left out<") :]


def test_a_comparison_shows_its_verdict_then_everything(comparison: Path) -> None:
    html = report(comparison)
    gain = json.loads((comparison / "compare.json").read_text())["gains"][2]
    verdict = re.search(r"<h1>(.*?)</h1>", html, flags=re.DOTALL)
    assert verdict is not None
    assert f"Gain: +{100 * gain['mean']:.2f}\u00a0points" in verdict[1]
    assert html.index("<h1>") < html.index("<h2")
    assert headings(html) == [
        *("Arms", "Curves", "Size and speed", "Reliability", "Classes", "Confusion", "Cost"),
        "How it was made",
    ]
    assert "Every run took 620 steps over 39,680 images." in html


def test_a_run_shows_what_it_has(run: Path) -> None:
    html = report(run)
    assert headings(html) == [
        *("Measures", "Curves", "Size and speed", "Reliability", "Classes", "Confusion"),
        "How it was made",
    ]
    for word in ("Retention", "Agreement", "Fidelity", "ECE", "Learning rate", "limbeck compare"):
        assert word in html


def test_the_arms_table_holds_seeds_interval_and_cost(comparison: Path) -> None:
    record = json.loads((comparison / "compare.json").read_text())
    arm, gain = record["arms"]["distilled"], record["gains"][2]
    row = re.search(r'<tr class="strong">(.*?)</tr>', report(comparison), flags=re.DOTALL)
    assert row is not None
    assert f"{100 * arm['mean']:.2f} ± {100 * arm['std']:.2f} %" in row[1]
    assert " · ".join(f"{100 * each['top1']:.2f}" for each in arm["runs"]) in row[1]
    assert f"+{100 * gain['low']:.2f} to +{100 * gain['high']:.2f}" in row[1]
    assert all(f"<td>{cell}</td>" in row[1] for cell in ("4.1 s", "620", "39,680"))


@pytest.mark.parametrize(
    ("kind", "sign", "meaning"),
    [
        ("gain", "▲", "better for having had the teacher"),
        ("no gain shown", "◆", "do not show that the teacher helps"),
        ("loss", "▼", "worse for having had the teacher"),
    ],
)
def test_every_verdict_is_plain(comparison: Path, kind: str, sign: str, meaning: str) -> None:
    change(comparison / "compare.json", verdict={"kind": kind, "text": f"{kind}: as measured"})
    html = report(comparison)
    assert f"{kind[0].upper()}{kind[1:]}" in html[html.index("<h1>") : html.index("</h1>")]
    assert sign in html
    assert "As measured." in html
    assert meaning in html


def test_one_seed_has_no_interval(comparison: Path) -> None:
    gain = {"arm": "distilled", "against": "labels only", "per_seed": [0.05], "mean": 0.05}
    verdict = {"kind": "no gain shown", "text": "no gain shown: +5.00 points (1 seed)"}
    arms = json.loads((comparison / "compare.json").read_text())["arms"]
    arms = {name: arm | {"runs": arm["runs"][:1], "std": 0.0} for name, arm in arms.items()}
    change(comparison / "compare.json", gains=[gain], verdict=verdict, seeds=[0], arms=arms)
    html = report(comparison)
    assert "± 0.00" not in html
    assert "One seed has no interval" in html
    assert "interval spans zero" not in html


def test_a_better_arm_and_an_unequal_budget_are_said(comparison: Path) -> None:
    arms = json.loads((comparison / "compare.json").read_text())["arms"]
    arms["hard pseudo-labels"]["mean"] = 0.99
    arms["hard pseudo-labels"]["runs"][0]["steps"] = 640
    change(comparison / "compare.json", arms=arms)
    html = report(comparison)
    assert "The highest mean is that of hard pseudo-labels: 99.00\u00a0%" in html
    assert "the budgets are not equal" in html
    assert "620 to 640" in html


def test_what_others_named_is_escaped(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", "&amp;", '"quoted"')
    make_run(tmp_path / "run", classes=classes)
    (tmp_path / "run" / "recipe.yaml").write_text("name: </pre><script>\n")
    html = report(tmp_path / "run")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "name: &lt;/pre&gt;&lt;script&gt;" in html


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_the_file_needs_no_network_and_no_script(name: str, request: pytest.FixtureRequest) -> None:
    html = report(request.getfixturevalue(name))
    for outside in ("http", "//", "src=", "href=", "url(", "@import", "<script", "<link"):
        assert outside not in html.replace("</", "<").replace("/>", ">")


def test_both_schemes_narrow_windows_and_print_are_styled(run: Path) -> None:
    html = report(run)
    for rule in ("(prefers-color-scheme: dark)", "(max-width: 40rem)", "@media print"):
        assert rule in html
    assert all("#" not in drawing for drawing in drawings(html))


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_drawings_are_whole_and_say_what_they_show(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = drawings(report(request.getfixturevalue(name)))
    assert len(found) >= 10
    for drawing in found:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not re.search(r'="[^"]*\b(nan|inf)\b', drawing)


class Nesting(HTMLParser):
    """Follows the open elements; `wrong` names end tags that close another element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_elements_nest_and_table_headers_have_a_scope(
    name: str, request: pytest.FixtureRequest
) -> None:
    html = report(request.getfixturevalue(name))
    nesting = Nesting()
    nesting.feed(html)
    assert (nesting.open, nesting.wrong) == ([], [])
    assert html.count("<th ") == html.count('<th scope="')
    assert "<th>" not in html


@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("metrics.jsonl", ["Curves"]),
        ("evaluation.json", ["Measures", "Size and speed", "Reliability", "Classes", "Confusion"]),
        ("recipe.yaml", []),
        ("environment.json", []),
    ],
)
def test_a_missing_file_leaves_its_sections_out(run: Path, file: str, missing: list[str]) -> None:
    whole = headings(report(run))
    (run / file).unlink()
    html = report(run)
    assert headings(html) == [each for each in whole if each not in missing] + ["Left out"]
    assert f"{file} is missing" in left_out(html)
    assert all(f"{section}: needs {file}" in left_out(html) for section in missing)


def test_runs_without_files_leave_a_comparison_standing(comparison: Path) -> None:
    for file in comparison.glob("arms/*/*/*.*"):
        file.unlink()
    html = report(comparison)
    assert headings(html) == ["Arms", "Size and speed", "Cost", "Left out"]
    assert "metrics.jsonl is missing in 12 of 12 runs: arms/labels-only/seed-0" in html


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"top1": 0.9', "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ('{"top1": "high"}', "is not as expected: top1"),
        ('{"classes": ["a", "b"], "confusion": [[1, 2]]}', "confusion must be 2 by 2"),
    ],
)
def test_a_broken_evaluation_is_named(run: Path, content: str, problem: str) -> None:
    (run / "evaluation.json").write_text(content)
    html = report(run)
    assert "Not evaluated yet" in html
    assert f"evaluation.json {problem}" in html or problem in left_out(html)


def test_unknown_and_infinite_numbers_become_dashes(run: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation |= {"nll": float("nan"), "latency_ms": None, "from_tomorrow": 1}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    html = report(run)
    assert re.search(r"Negative log-likelihood, nats</th><td>–</td>", html)
    assert "nan" not in html[html.index("<h1>") :]


def test_a_student_without_a_teacher(run: Path) -> None:
    change(run / "evaluation.json", teacher=None, retention=None, agreement=None)
    html = report(run)
    assert "Retention" not in html
    assert "of its teacher" not in html
    assert "Hollow: teacher" not in html


def test_many_classes_are_shown_as_their_most_frequent_mistakes(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(31))
    make_run(tmp_path / "many", classes=names)
    html = report(tmp_path / "many")
    assert html.count('class="cell') == 0
    assert html.count("Taken for") == 2
    assert "The 12 best and 12 worst of 31 classes." in html
    make_run(tmp_path / "few", classes=names[:30])
    assert report(tmp_path / "few").count('class="cell') == 2 * 30 * 30


@pytest.mark.parametrize(
    ("files", "saying"),
    [
        ([], "is empty"),
        (["notes.txt"], "holds none of them"),
        (["arms/distilled/seed-0/recipe.yaml"], "unfinished comparison"),
    ],
)
def test_a_wrong_folder_is_an_error_of_one_line(
    tmp_path: Path, files: list[str], saying: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(LimbeckError, match=saying) as caught:
        write_report(tmp_path)
    assert "must be a run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_file_are_errors(run: Path) -> None:
    with pytest.raises(LimbeckError, match="does not exist"):
        write_report(run / "nowhere")
    with pytest.raises(LimbeckError, match="is a file; give the folder that holds it"):
        write_report(run / "evaluation.json")


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        ("{", "compare.json is not a JSON object"),
        ('{"arms": {}}', "compare.json is not as expected: verdict: Field required"),
        (
            '{"verdict": {"kind": "", "text": ""}, "baseline": "a", "subject": "b", "arms": {}}',
            "arms must hold 'a'",
        ),
    ],
)
def test_a_broken_comparison_is_an_error(tmp_path: Path, content: str, saying: str) -> None:
    (tmp_path / "compare.json").write_text(content)
    with pytest.raises(LimbeckError, match=saying):
        write_report(tmp_path)


def test_the_report_goes_where_it_is_wanted(run: Path, tmp_path: Path) -> None:
    assert write_report(run) == run / "report.html"
    assert write_report(run, tmp_path / "deep" / "a.html").is_file()
    with pytest.raises(LimbeckError, match="`out` must be a file"):
        write_report(run, tmp_path)


def test_long_curves_are_averaged_down() -> None:
    points = [(float(step), float(step % 2)) for step in range(10_001)]
    drawing = charts.lines([charts.Line("loss", points, 0)], "step", "loss")
    (path,) = re.findall(r'<polyline[^>]*points="([^"]*)"', drawing)
    assert 200 < len(path.split()) <= 300


def test_a_resumed_run_counts_its_last_words_and_a_torn_line_none() -> None:
    lines = [
        '{"kind":"train","step":1,"loss":3.0,"parts":{"truth":3.0},"lr":0.1}',
        '{"kind":"train","step":2,"loss":9.0,"parts":{"truth":9.0},"lr":0.1}',
        '{"kind":"train","step":2,"loss":2.0,"parts":{"truth":2.0},"lr":0.1}',
        '{"kind":"train","step":3,"loss":NaN,"parts":{"truth":NaN},"lr":0.1}',
        '{"kind":"eval","step":3,"epoch":1,"split":"valid","top1":0.5}',
        '{"kind":"train","step":4,"lo',
    ]
    found = history(lines)
    assert found.terms == {"truth": [(1.0, 3.0), (2.0, 2.0)]}
    assert found.accuracy == {"valid": [(1.0, 0.5)]}
    assert found.seconds is None


def test_curves_that_share_no_step_are_not_averaged() -> None:
    assert averaged([[(1, 1.0)], [(2, 5.0)]]) == [(1, 1.0)]
    assert averaged([[(1, 1.0), (2, 3.0)], [(2, 5.0)]]) == [(2, 4.0)]
    assert averaged([[], []]) == []


def test_an_accuracy_measured_once_is_no_curve(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    evaluations = [line for line in lines if '"eval"' in line]
    assert "Accuracy on valid" in report(run)
    kept = [line for line in lines if line not in evaluations[1:]]
    (run / "metrics.jsonl").write_text("\n".join(kept))
    html = report(run)
    assert "Accuracy on valid" not in html
    assert "Learning rate" in html


def test_seeds_are_pooled_by_their_counts(comparison: Path) -> None:
    found = collect(comparison)
    assert isinstance(found, Compared)
    seeds = list(found.evaluations("distilled").values())
    matrix = pooled.confusion(seeds)
    assert matrix[3][3] == sum(each.confusion[3][3] for each in seeds)
    assert sum(map(sum, matrix)) == 3 * 2500
    for merged, each in zip(pooled.reliability(seeds), seeds[0].reliability, strict=True):
        assert merged.count == 3 * each.count
    gains = pooled.class_gains(found.evaluations("distilled"), found.evaluations("labels only"))
    ours, theirs = (found.evaluations(arm)[1].confusion for arm in ("distilled", "labels only"))
    assert gains["7"][1] == pytest.approx((ours[7][7] - theirs[7][7]) / 250)


@pytest.mark.parametrize("count", [2, 5, 9])
@pytest.mark.parametrize("height", [40.0, 130.0, 218.0])
def test_names_in_a_scatter_plot_do_not_collide(count: int, height: float) -> None:
    names = [f"arm number {index}" for index in range(count)]
    points = [(120.0 + index % 2, height + index) for index in range(count)]
    room = (42.0, 22.0, 438.0, 228.0)
    boxes = placed(points, names, room)
    for index, box in enumerate(boxes):
        assert box[2] - box[0] == pytest.approx(width(names[index]) + KEY)
        assert room[0] <= box[0] < box[2] <= room[2]
        assert room[1] <= box[1] < box[3] <= room[3]
        assert all(overlap(box, other) == 0 for other in boxes[:index])


def test_names_at_the_ends_of_lines_keep_their_distance_and_order() -> None:
    places = spread([200, 199, 198, 30], gap=15, low=20, high=200)
    ordered = sorted(places)
    assert all(b - a >= 15 for a, b in pairwise(ordered))
    assert places[0] > places[1] > places[2] > places[3]
    assert max(places) <= 200


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 7.9), (86.1, 86.9), (1e-5, 9e-5), (0, 1e6)]
)
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 4 <= len(found) <= 8
    assert low - 1e-12 <= found[0] < found[-1] <= high + 1e-12
    texts = tick_texts(found)
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) <= 7


def test_a_logarithmic_scale_gives_every_decade_the_same_room() -> None:
    scale = Scale(1e3, 1e6, 0, 300, log=True)
    assert [scale(value) for value in (1e3, 1e4, 1e5, 1e6)] == pytest.approx([0, 100, 200, 300])
    assert scale.ticks() == [1e3, 1e4, 1e5, 1e6]
    assert Scale(60, 90, 0, 300, log=True).ticks() == [60, 65, 70, 75, 80, 85, 90]


def test_equal_values_still_have_a_scale() -> None:
    point = charts.Point("only", 5.0, 90.0, 0)
    row = charts.Row("only", 0.0, "+0.00", 0)
    for drawing in (
        charts.scatter([point, point], "parameters", "top-1, %"),
        charts.lines([charts.Line("flat", [(1.0, 2.0)], 0)], "step", "loss"),
        charts.dots([row], "points", zero=True),
        charts.bars([row], "seconds"),
    ):
        assert "nan" not in drawing
        assert ElementTree.fromstring(drawing).tag == "svg"
