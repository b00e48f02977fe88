"""The reference of a recipe's keys, of the losses and of the methods, from the code itself, and
who teaches whom in the recipes of all schemes.

    python docs/generate.py

writes the pages of docs/generated; building the documentation does so too.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from commands import commands
from costs import costs, faster, table

from limbeck import losses, methods, truth
from limbeck.compare import Gain
from limbeck.errors import LimbeckError
from limbeck.graph import drawing
from limbeck.methods.measured import Measured, measured, where
from limbeck.recipe import Recipe, graph_of, read
from limbeck.recipe.keywords import keywords as keywords_of
from limbeck.recipe.keywords import named
from limbeck.store import codec

Schema = Mapping[str, Any]
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
CONFORMANCE = RESULTS / "conformance.json"
PLACES = {  # where a block stands in a recipe
    "Recipe": "the recipe",
    "Data": "data",
    "Augmentation": "data.augment",
    "Variation": "data.strong",
    "Model": "student",
    "Teacher": "teacher",
    "Optimize": "teacher.optimize",
    "EmaSource": "a source of kind ema",
    "PastSource": "a source of kind past",
    "ViewSource": "a source of kind view",
    "PriorSource": "a source of kind prior",
    "EnsembleSource": "a source of kind ensemble",
    "DrawnSource": "a source of kind drawn",
    "RoutedSource": "a source of kind routed",
    "StoredSource": "a source of kind store",
    "ForeignSource": "a teacher of another framework",
    "Branches": "student.branches",
    "Attended": "teach by attention",
    "Term": "objective",
    "Method": "objective by method",
    "Chain": "chain",
    "Assistant": "an assistant",
    "Dense": "dense",
    "Ramp": "a schedule",
    "Training": "train",
    "Comparison": "compare",
}
SCHEMES = Path(__file__).parents[1] / "recipes" / "schemes"
GROUPS = (
    "One teacher",
    "Several teachers",
    "The student itself",
    "Students that teach one another",
    "Chains",
)
WHO = ("teacher", "sources", "student", "students", "teach", "chain", "dense", "objective")
JOBS = {  # samples, epochs, views
    "ImageNet": (1_280_000, 100, 4),
    "a billion samples": (1_000_000_000, 1, 1),
}
SPEED = 10_000  # samples a second of the student alone, on paper
ROW = 20  # bytes of a row's key and view
KEPT = {
    "`logits`, 1,000 classes": ("logits", 1_000, {}),
    "`topk,k=10`, 1,000 classes": ("topk", 1_000, {"k": 10}),
    "`sampled,n=22`, 1,000 classes": ("sampled", 1_000, {"n": 22}),
    "`float16`, 2,048 features": ("float16", 2_048, {}),
}
SEEN = ("labels", "unlabelled", "pairs", "own_views")  # of the data, what who learns depends on
WORDS = {"boolean": "true or false", "integer": "whole number", "string": "text", "path": "path"}


def write(folder: Path) -> None:
    """Writes the generated pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys.md").write_text(keys(), encoding="utf-8")
    (folder / "commands.md").write_text(commands(), encoding="utf-8")
    (folder / "losses.md").write_text(loss_table(), encoding="utf-8")
    (folder / "methods.md").write_text(method_table(), encoding="utf-8")
    (folder / "conformance.md").write_text(conformance(), encoding="utf-8")
    (folder / "measured.md").write_text(measured_table(), encoding="utf-8")
    (folder / "schemes.md").write_text(schemes_measured(RESULTS / "schemes.json"), encoding="utf-8")
    (folder / "stores.md").write_text(stores_measured(RESULTS), encoding="utf-8")
    (folder / "costs.md").write_text(costs(RESULTS), encoding="utf-8")
    (folder / "faster.md").write_text(faster(RESULTS / "teachers.json"), encoding="utf-8")
    (folder / "cost-model.md").write_text(cost_model(RESULTS), encoding="utf-8")
    (folder / "who-teaches-whom.md").write_text(schemes(SCHEMES), encoding="utf-8")
    for family in sorted({row.family for row in methods.ROWS}):
        (folder / f"methods-{family}.md").write_text(family_tables(family), encoding="utf-8")


def keys() -> str:
    """A section for each block, with a table of its keys."""
    schema = Recipe.model_json_schema()
    blocks = {"Recipe": schema, **schema["$defs"]}
    return "\n".join(section(name, blocks) for name in PLACES)


def section(name: str, blocks: Mapping[str, Schema]) -> str:
    """One block; a teacher's keys are those that a student does not have."""
    block = blocks[name]
    fields = dict(block["properties"])
    lines = [f"### {PLACES[name]}", "", summary(block), ""]
    if name in ("Teacher", "Assistant"):
        fields = {key: f for key, f in fields.items() if key not in blocks["Model"]["properties"]}
        lines += ["All keys of [student](#student), and these:", ""]
    required = block.get("required", ())
    rows = [
        (f"`{key}`", words(field), default(key, field, required), meaning(field, blocks))
        for key, field in fields.items()
    ]
    told = 4 if any(row[-1] for row in rows) else 3
    head = ("key", "value", "default", "meaning")[:told]
    return "\n".join([*lines, *table(head, [row[:told] for row in rows]), ""])


def summary(block: Schema) -> str:
    return block["description"].partition("\n")[0]


def words(field: Schema) -> str:
    """What a value may be.

    >>> words({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]})
    'whole number > 0'
    >>> words({"enum": ["SGD", "Adam"], "type": "string"})
    '`SGD`, `Adam`'
    """
    if "$ref" in field:
        place = PLACES[field["$ref"].rpartition("/")[2]]
        return f"[{place}](#{re.sub(r'[^a-z]+', '-', place.replace('.', ''))})"
    alternatives = field.get("anyOf", field.get("oneOf"))
    if alternatives is not None:
        return " or ".join(words(each) for each in alternatives if each.get("type") != "null")
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = field.get("type", "any")
    if kind == "array":
        return listed(field)
    if kind == "object":
        inner = field.get("additionalProperties")
        return f"name → {words(inner)}" if isinstance(inner, Mapping) else "keywords"
    return WORDS.get(field.get("format", kind), kind) + bounds(field)


def bounds(field: Schema) -> str:
    """The range of a number.

    >>> bounds({"exclusiveMinimum": 0, "maximum": 1}), bounds({"minimum": 0}), bounds({})
    (' in (0, 1]', ' ≥ 0', '')
    """
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if low is None:
        return ""
    if high is None:
        return f" {'≥' if 'minimum' in field else '>'} {low:g}"
    left, right = "[" if "minimum" in field else "(", "]" if "maximum" in field else ")"
    return f" in {left}{low:g}, {high:g}{right}"


def listed(field: Schema) -> str:
    """A list of any length, or of one."""
    parts = field.get("prefixItems")
    if parts is None:
        return f"list of {words(field['items'])}"
    return f"list of {len(parts)}: {words(parts[0])}"


def default(key: str, field: Schema, required: Iterable[str]) -> str:
    """The default as YAML writes it; none for what may be left out."""
    value = field.get("default")
    if key in required:
        return "required"
    if value is None or isinstance(value, Mapping) or value == []:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`"


def meaning(field: Schema, blocks: Mapping[str, Schema]) -> str:
    """What a key is for; of a whole block, the block's own words."""
    if "description" in field:
        return field["description"]
    found = [option["$ref"] for option in (field, *field.get("anyOf", ())) if "$ref" in option]
    return summary(blocks[found[0].rpartition("/")[2]]).rstrip(".").lower() if found else ""


def loss_table() -> str:
    """The losses that a term may name, with their keywords."""
    known = {"truth": truth} | {name: getattr(losses, name) for name in losses.__all__}
    del known["cross_entropy"]  # which is the truth's
    rows = [(f"`{name}`", keywords(loss), first_line(loss)) for name, loss in known.items()]
    return "\n".join([*table(("loss", "keywords", "what it is"), rows), ""])


def keywords(loss: Any) -> str:
    """The keywords that are numbers, with their defaults; masks and counts are signals."""
    options = [p for p in inspect.signature(loss).parameters.values() if is_number(p.default)]
    return ", ".join(f"`{p.name}: {p.default:g}`" for p in options)


def method_table() -> str:
    """The methods that an entry may name, but for those of dense tasks, with their keywords.

    A number is what a keyword is unless it is given.
    """
    rows = [
        (f"`{row.name}`", arguments(row.name), first_line(getattr(methods, row.name)))
        for row in methods.ROWS
        if row.family != "dense" and in_recipes(row.name)
    ]
    return "\n".join([*table(("method", "keywords", "what it is"), rows), ""])


def in_recipes(name: str) -> bool:
    """Whether an entry of a recipe may name a method.

    >>> in_recipes("kd"), in_recipes("simkd")
    (True, False)
    """
    try:
        return named(name) == name
    except LimbeckError:
        return False


def arguments(name: str) -> str:
    """The keywords of a method, those that must be given in bold.

    >>> arguments("at")
    '**`student`**, `theirs`, `weight: 15.6`, `truth_weight: 1`'
    """
    known = inspect.signature(getattr(methods, name)).parameters
    fields = keywords_of(name).model_fields
    return ", ".join(argument(known[key], fields[key].is_required()) for key in fields)


def argument(parameter: inspect.Parameter, required: bool) -> str:
    if isinstance(parameter.default, bool):
        return f"`{parameter.name}: {str(parameter.default).lower()}`"
    if is_number(parameter.default):
        return f"`{parameter.name}: {parameter.default:g}`"
    return f"**`{parameter.name}`**" if required else f"`{parameter.name}`"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def first_line(loss: Any) -> str:
    return (inspect.getdoc(loss) or "").partition("\n")[0]


def conformance() -> str:
    """The errors of every loss on every backend, as measured, and the limits that are wider."""
    result = json.loads(CONFORMANCE.read_text(encoding="utf-8"))
    backends = result["backends"]
    head = [f"{name} {measured['version']}" for name, measured in backends.items()]
    rows = [
        (f"`{name}`", *(error(*measured["errors"][name]) for measured in backends.values()))
        for name in backends["torch"]["errors"]
    ]
    wider = [
        f"- `{name}`: {value:.0e} and {gradient:.0e}; {reason}."
        for name, (value, gradient, reason) in result["wider"].items()
    ]
    return "\n".join([*table(("loss", *head), rows), "", *wider, ""])


def error(value: float, gradient: float | None) -> str:
    """Value and gradient, where there is one.

    >>> error(1e-7, 2e-6), error(0.0, None)
    ('1e-07, 2e-06', '0e+00')
    """
    return f"{value:.0e}" if gradient is None else f"{value:.0e}, {gradient:.0e}"


def measured_table() -> str:
    """What the methods gained over labels only, the best first, beside what others published."""
    if not measured():
        return "The table is still to be made.\n"
    rows = {row.name: row for row in methods.ROWS}
    best = sorted(measured().items(), key=lambda pair: -pair[1].gain)
    lines = [(f"`{name}`", rows[name].family, *gained(m), rows[name].published) for name, m in best]
    head = ("method", "family", "points over labels only", "step", "published, not measured here")
    return "\n".join([f"{where()}.", "", *table(head, lines), ""])


def gained(found: Measured) -> tuple[str, str]:
    """Gain and cost of a method.

    >>> gained(Measured(1.234, 0.8, 1.6, 3, 1.5))
    ('+1.23 (95 % +0.80 to +1.60)', '1.50')
    """
    points = found.text.replace(" points", "").replace(", screened: one seed", " *screened*")
    return points, "" if found.cost is None else f"{found.cost:.2f}"


def schemes_measured(result: Path) -> str:
    """What each scheme gained over what it must be better than, a table for each family."""
    if not result.exists():
        return "Not measured yet.\n"
    document = json.loads(result.read_text(encoding="utf-8"))
    teachers = (f"{name} ({100 * s['test']:.2f} %)" for name, s in document["teachers"].items())
    lines = [f"{document['steps']:,} steps of 64 images; teachers: {', '.join(teachers)}.", ""]
    for family in dict.fromkeys(row["family"] for row in document["rows"]):
        rows = [scheme_cells(row) for row in document["rows"] if row["family"] == family]
        head = ("scheme", "top-1 %", "against", "points", "verdict", "time", "MiB")
        lines += [f"## {family}", "", *table(head, rows), ""]
    return "\n".join(lines)


def stores_measured(results: Path) -> str:
    """What a stored teacher saves, and what a token costs, where that was measured."""
    lines = []
    parts = (
        ("store.json", saved_time),
        ("views.json", recycled_views),
        ("tokens.json", token_costs),
    )
    for name, lines_of in parts:
        if (results / name).exists():
            lines += lines_of(json.loads((results / name).read_text(encoding="utf-8")))
    return "\n".join(lines or ["Not measured yet."]) + "\n"


def saved_time(document: Mapping[str, Any]) -> list[str]:
    """Steps with a live and with a stored teacher, and what reading and writing take."""
    rows = [
        (
            pair,
            *(f"{ms[way]:.0f}" for way in ("live", "stored", "free")),
            f"{ms['faster']:.2f}",
            f"{ms['of the bound']:.2f}",
        )
        for pair, ms in document["steps"].items()
    ]
    head = ("pair", "live, ms", "stored, ms", "free, ms", "times as fast", "of the bound")
    rates = "; ".join(f"{name}: {rate:,.0f}" for name, rate in document["io"].items())
    return [*table(head, rows), "", f"50,000 rows of 1,000 classes in half precision: {rates}.", ""]


def recycled_views(document: Mapping[str, Any]) -> list[str]:
    """What it costs a student that the variations of an image come again."""
    found = {(row["arm"], row["against"]): Gain(**row) for row in document["gains"]}
    baselines = ("labels only", "every view new")
    rows = [
        (
            arm,
            str(row["passes"]),
            f"{row['mean']:.2f}",
            *(over(found.get((arm, b))) for b in baselines),
        )
        for arm, row in document["arms"].items()
    ]
    head = ("views", "passes of the teacher", "top-1 %", *(f"against {b}" for b in baselines))
    job = (
        f"{document['images']:,} images of CIFAR-10, {document['epochs']} epochs, paired by seed "
        "(`python benchmarks/views.py`):"
    )
    return [job, "", *table(head, rows), ""]


def over(found: Gain | None) -> str:
    """A difference with its interval, where there is one."""
    if found is None:
        return ""
    points = f"{found.mean:+.2f}"
    return points if found.low is None else f"{points} ({found.low:+.2f} to {found.high:+.2f})"


def token_costs(document: Mapping[str, Any]) -> list[str]:
    """Bytes a token of each codec, and what it loses."""
    rows = [
        (
            name,
            f"{row['bytes']:,.0f}",
            f"{row['bytes_128k']:,.0f}",
            f"{row['mean']:.4f}" if "mean" in row else "",
            f"{100 * row['gradient']:.1f} %",
            f"{100 * row['together']:.1f} %",
        )
        for name, row in document["codecs"].items()
    ]
    head = (
        "codec",
        "bytes a token",
        "of 131,072 tokens",
        "error of log p, nats",
        "gradient off by, each token",
        "all together",
    )
    published = "; ".join(f"{name}: {size}" for name, size in document["published"].items())
    return [
        f"{document['teacher']}, {document['vocabulary']:,} tokens, on {document['tokens']:,} of "
        "these pages' own; the student is its logits halved:",
        "",
        *table(head, rows),
        "",
        f"Published formats at about 128 thousand tokens, bytes: {published}.",
        "",
    ]


def cost_model(results: Path) -> str:
    """What a store would cost and save at sizes that nobody here has run, where it was measured."""
    if not all((results / name).exists() for name in ("store.json", "tokens.json")):
        return "Not measured yet.\n"
    store, tokens = (
        json.loads((results / name).read_text(encoding="utf-8"))
        for name in ("store.json", "tokens.json")
    )
    pairs, jobs = store["steps"].items(), JOBS.items()
    times = [(pair, name, *hours(ms, *job)) for name, job in jobs for pair, ms in pairs]
    head = ("pair", "job", "teacher alive, h a run", "teacher for the store, h once")
    head = (*head, "student, h a run", "pays after, runs", "ten runs, times as fast")
    sizes = [
        (name, *bytes_of(codec(kind, **settings).bytes((width,)) + ROW))
        for name, (kind, width, settings) in KEPT.items()
    ]
    token = tokens["codecs"]["top 50, levels"]["bytes_128k"]
    sizes.append(("`topk,k=50,values=levels`, a token of 131,072", *bytes_of(token)))
    kept = ("a row", "bytes", *JOBS, f"MB/s at {SPEED:,} rows a second")
    rates = store["io"]
    reading = rates["store, rows/s"] / SPEED
    tera = {name: 1e6 / rates[f"{name}, MB/s"] for name in ("write", "verify")}  # seconds
    last = (
        f"One thread reads {reading:.0f} times {SPEED:,} rows of 1,000 classes a second from a "
        f"warm cache. A terabyte takes one writer {tera['write'] / 3600:.1f} hours beside the "
        f"teacher; to look at every byte of it takes one thread {tera['verify'] / 60:.0f} minutes."
    )
    return "\n".join([*table(head, times), "", *table(kept, sizes), "", last, ""])


def hours(
    ms: Mapping[str, float], samples: int, epochs: int, views: int, runs: int = 10
) -> tuple[str, ...]:
    """Teacher a run, teacher once, student a run, break-even, and how much faster `runs` are.

    >>> hours({"live": 3.0, "stored": 1.0, "free": 1.0}, 36_000_000, epochs=1, views=1)
    ('2.0', '2.0', '1.0', '1.00', '2.5')
    """
    s, a, r = ms["free"], ms["live"] - ms["free"], max(ms["stored"] - ms["free"], 0.0)
    once = samples / (SPEED * s) / 3600  # hours of one pass, for each unit of a, s and r
    alive, stored = runs * epochs * (s + a), views * a + runs * epochs * (s + r)
    cells = (epochs * a * once, views * a * once, epochs * (s + r) * once)
    pays = views * a / (epochs * (a - r))
    return *(f"{cell:,.1f}" for cell in cells), f"{pays:.2f}", f"{alive / stored:.1f}"


def bytes_of(row: float) -> tuple[str, ...]:
    """Bytes of a row, of the rows of each job, and a second.

    >>> bytes_of(2000)
    ('2,000', '10 GB', '2,000 GB', '20')
    """
    disks = (f"{figure(samples * views * row / 1e9)} GB" for samples, _, views in JOBS.values())
    return f"{row:,.0f}", *disks, figure(SPEED * row / 1e6)


def figure(number: float) -> str:
    """Whole numbers, and two digits of small ones.

    >>> figure(2024.3), figure(0.4123)
    ('2,024', '0.41')
    """
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def scheme_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A scheme's line.

    >>> row = {"name": "dml, a", "ours": 66.5, "against": "a, apart", "theirs": 66.0, "gain": 0.5}
    >>> row |= {"low": -0.123, "high": 1.123, "seeds": 3, "verdict": "no gain shown"}
    >>> scheme_cells(row | {"time": 2.0, "mib": 48.6})[1:4]
    ('66.50', 'a, apart (66.00)', '+0.50 (95 % -0.12 to +1.12)')
    >>> scheme_cells(row | {"low": None, "seeds": 1, "time": None, "mib": None})[3:]
    ('+0.50 *one seed*', 'no gain shown', '', '')
    """
    points, seeds = f"{row['gain']:+.2f}", row["seeds"]
    if row["low"] is None:
        points += " *one seed*"
    else:
        points += f" (95 % {row['low']:+.2f} to {row['high']:+.2f})"
        points += "" if seeds == 3 else f" *{seeds} seeds*"
    costs = (
        "" if row[key] is None else f"{row[key]:.{n}f}" for key, n in (("time", 2), ("mib", 1))
    )
    against = f"{row['against']} ({row['theirs']:.2f})"
    return row["name"], f"{row['ours']:.2f}", against, points, row["verdict"], *costs


def family_tables(family: str) -> str:
    """The methods of a family: two tables, what they are and what to know."""
    rows = [row for row in methods.ROWS if row.family == family]
    what = [(f"`{row.name}`", row.signal, f"`{row.formula}`", row.paper) for row in rows]
    know = [(f"`{row.name}`", row.taps, row.parameters, row.limits, row.published) for row in rows]
    first = table(("method", "signal", "formula", "paper"), what)
    second = table(("method", "taps", "trains too", "limits", "published, not measured here"), know)
    return "\n".join([*first, "", *second, ""])


def schemes(folder: Path) -> str:
    """A section for each recipe of a folder, by who teaches."""
    found = [(group(read(path)), path) for path in sorted(folder.glob("*.yaml"))]
    lines = []
    for title in GROUPS:
        of_it = [scheme(path) for name, path in found if name == title]
        lines += [f"## {title}", "", *of_it] if of_it else []
    return "\n".join(lines)


def group(recipe: Recipe) -> str:
    """The kind of those who teach."""
    if recipe.chain or recipe.students:
        return GROUPS[4] if recipe.chain else GROUPS[3]
    return {0: GROUPS[2], 1: GROUPS[0]}.get(len(recipe.networks()), GROUPS[1])


def scheme(path: Path) -> str:
    """The drawing of a recipe, and the lines that it is made from; its first line is the title."""
    text = path.read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    picture = f'<div style="overflow-x:auto">\n{drawing(graph_of(read(path)))}\n</div>'
    where = f"`recipes/schemes/{path.name}`"
    code = ["```yaml", *telling(rest), "```"]
    return "\n".join([f"### {title.lstrip('# ')}", "", picture, "", where, "", *code, ""])


def telling(text: str) -> list[str]:
    """The lines of a recipe that say who teaches whom, without how each sees an image.

    >>> telling("data:\\n  train: a\\n  pairs: view\\nstudent:\\n  model: b\\n  std: [1]")
    ['data:', '  pairs: view', 'student:', '  model: b']
    """
    kept, block = [], ""
    for line in text.splitlines():
        key = line.strip(" -").partition(":")[0]
        block = block if line.startswith((" ", "#")) else key
        if (block in WHO and key not in ("mean", "std")) or (block == "data" and key in SEEN):
            kept += ["data:"] if block == "data" and "data:" not in kept else []
            kept.append(line)
    return kept


if __name__ == "__main__":
    write(Path(__file__).parent / "generated")
