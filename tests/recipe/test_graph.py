"""Who teaches whom, as a recipe has it."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipe.raws import recipe

from limbeck.cli import SCHEMES, TEMPLATES
from limbeck.errors import LimbeckError
from limbeck.graph import Graph, lines
from limbeck.recipe import graph_of, graph_of_text, read

RECIPES = Path(__file__).parents[2] / "recipes"
NEW = [files("limbeck.recipe") / name for name in (*TEMPLATES.values(), *SCHEMES.values())]
MLP, CNN = {"model": "limbeck.zoo:mlp"}, {"model": "limbeck.zoo:small_cnn"}
TRUTH, PEERS = {"loss": "truth"}, {"loss": "kl", "source": "peers"}


def taught(**changes: Any) -> list[tuple[str, str, str]]:
    """The arrows that teach, as (start, terms, end)."""
    return arrows(graph_of(recipe(**changes)), teaches=True)


def made(**changes: Any) -> list[tuple[str, str, str]]:
    """The other arrows but those of labels."""
    found = arrows(graph_of(recipe(**changes)), teaches=False)
    return [arrow for arrow in found if arrow[0] != "labels"]


def arrows(graph: Graph, *, teaches: bool) -> list[tuple[str, str, str]]:
    chosen = [arrow for arrow in graph.arrows if arrow.teaches == teaches]
    return [(arrow.start, ", ".join(arrow.terms), arrow.end) for arrow in chosen]


def reading(source: dict[str, Any], *others: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Changes by which a student without a teacher reads a source `from`."""
    sources = {f"s{k}": other for k, other in enumerate(others)} | {"from": source}
    objective = [TRUTH, {"loss": "kl", "source": "from", "weight": 0.5}]
    return {"teacher": None, "sources": sources, "objective": objective, **changes}


# the whole in plain characters


def test_a_teacher_and_a_student() -> None:
    assert lines(graph_of(read(RECIPES / "cifar10.yaml"))) == (
        "labels ------------------------------- truth · 0.1 ---> student (resnet8x4)\n"
        "teacher (resnet32x4, fitted first) --- kl T=4 · 0.9 --> student"
    )


def test_several_teachers() -> None:
    assert told("template-multi-teacher.yaml") == (
        "labels (200 kept) ---------------- truth · 0.5 ---> student (mlp)\n"
        "deep (small_cnn, fitted first) -------------------> both (mean of probabilities)\n"
        "wide (mlp, fitted first) -------------------------> both\n"
        "both ----------------------------- kl T=4 · 0.5 --> student"
    )


def test_a_student_that_teaches_itself() -> None:
    assert told("template-self.yaml") == (
        "labels ---- truth · 1 to 0.4 --> student (small_cnn)\n"
        "student -----------------------> past (said the last time)\n"
        "past ------ kl · 0 to 0.6 -----> student"
    )


def test_students_that_teach_each_other() -> None:
    assert told("template-mutual.yaml") == (
        "labels (200 kept) --- truth --> small (mlp)\n"
        "wide (small_cnn) ---- kl -----> small\n"
        "labels -------------- truth --> wide\n"
        "small --------------- kl -----> wide"
    )


def test_generations() -> None:
    assert told("template-generations.yaml") == (
        "labels --------- truth --------> generation-0 (mlp)\n"
        "labels --------- truth · 0.5 --> generation-1 (mlp)\n"
        "generation-0 --- kl · 0.5 -----> generation-1\n"
        "labels --------- truth · 0.5 --> generation-2 (mlp)\n"
        "generation-1 --- kl · 0.5 -----> generation-2"
    )


def told(template: str) -> str:
    text = (files("limbeck.recipe") / template).read_text(encoding="utf-8")
    return lines(graph_of_text(text))


# terms


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"loss": "kl"}, "kl"),
        ({"loss": "kl", "temperature": 2.0, "weight": 0.25}, "kl T=2 · 0.25"),
        ({"loss": "hint", "at": "layer3", "project": "conv"}, "hint[layer3]"),
        ({"loss": "kl", "name": "soft", "weight": 2}, "soft · 2"),
        ({"loss": "kl", "balance": 0.5}, "kl · balance 0.5"),
        (
            {"loss": "kl", "weight": {"schedule": "cosine", "start": 0, "stop": 1, "until": 0.5}},
            "kl · 0 to 1",
        ),
        (
            {"loss": "kl", "temperature": {"schedule": "linear", "start": 4, "stop": 1}},
            "kl T=4 to 1",
        ),
        ({"method": "kd", "truth_weight": 0, "temperature": 2}, "kd T=2 · 0.9"),
        ({"method": "at", "student": "layer3", "truth_weight": 0}, "at · 15.6"),
    ],
)
def test_a_term_in_short(entry: dict[str, Any], says: str) -> None:
    assert taught(objective=[TRUTH, entry]) == [("teacher", says, "student")]


def test_terms_between_the_same_two_share_an_arrow() -> None:
    hint = {"loss": "hint", "at": "layer3", "project": "conv"}
    found = taught(objective=[TRUTH, {"loss": "kl", "weight": 0.9}, hint])
    assert found == [("teacher", "kl · 0.9, hint[layer3]", "student")]


def test_labels_flow_where_a_term_or_a_method_reads_them() -> None:
    from_labels = [("labels", "truth · 0.1", "student")]
    assert arrows(graph_of(recipe(objective=[{"method": "kd"}])), teaches=False) == from_labels
    given = {"loss": "ps_kd", "given": {"target": "data:target"}, "weight": 2}
    found = graph_of(recipe(objective=[given]))
    assert arrows(found, teaches=False) == [("labels", "ps_kd · 2", "student")]
    assert arrows(found, teaches=True) == [("teacher", "ps_kd · 2", "student")]
    mask = {**TRUTH, "given": {"mask": "data:first"}}
    pairs = {"train": "digits:train", "pairs": "class"}
    found = graph_of(recipe(data=pairs, objective=[mask, {"loss": "kl"}]))
    assert arrows(found, teaches=False) == [("labels", "truth", "student")]


def test_labels_that_are_kept_are_counted() -> None:
    assert graph_of(recipe(data__labels=1200)).node("labels").note == "1,200 kept"
    assert graph_of(recipe()).node("labels").note == ""


def test_a_source_may_be_called_labels() -> None:
    kl = {"loss": "kl", "source": "labels"}
    graph = graph_of(recipe(teacher=None, sources={"labels": CNN}, objective=[TRUTH, kl]))
    assert arrows(graph, teaches=False) == [("the data", "truth", "student")]
    assert arrows(graph, teaches=True) == [("labels", "kl", "student")]


# sources


@pytest.mark.parametrize(
    ("source", "kind", "note"),
    [
        ({"kind": "ema", "decay": 0.99}, "network", "average, decay 0.99"),
        ({"kind": "past"}, "answer", "said the last time"),
        ({"kind": "view"}, "answer", "said of the other view"),
    ],
)
def test_what_is_made_of_the_student(source: dict[str, Any], kind: str, note: str) -> None:
    data = {"train": "digits:train", "augment": {"crop": 2}, "pairs": "view"}
    changes = reading(source, data=data)
    node = graph_of(recipe(**changes)).node("from")
    assert (node.kind, node.note) == (kind, note)
    assert made(**changes) == [("student", "", "from")]
    assert taught(**changes) == [("from", "kl · 0.5", "student")]


def test_a_prior_is_made_of_labels() -> None:
    graph = graph_of(recipe(**reading({"kind": "prior", "correct": 0.99})))
    assert ("labels", "", "from") in arrows(graph, teaches=False)
    assert graph.node("from").note == "0.99 for the label"


@pytest.mark.parametrize(
    ("source", "parts", "note"),
    [
        ({"kind": "ensemble", "of": ["s0", "s1"]}, ["", ""], "mean of probabilities"),
        (
            {"kind": "ensemble", "of": ["s0", "s1"], "mean": "logits", "weights": [0.75, 0.25]},
            ["0.75", "0.25"],
            "mean of logits",
        ),
        ({"kind": "drawn", "of": ["s0", "s1"]}, ["", ""], "one of them a step"),
        (
            {"kind": "routed", "of": {"s0": ["0", "1"], "s1": [f"class {k}" for k in range(8)]}},
            ["0 1", "8 classes"],
            "by the image's class",
        ),
    ],
)
def test_what_is_made_of_teachers(source: dict[str, Any], parts: list[str], note: str) -> None:
    changes = reading(source, CNN, MLP)
    assert made(**changes) == [("s0", parts[0], "from"), ("s1", parts[1], "from")]
    assert taught(**changes) == [("from", "kl · 0.5", "student")]
    assert graph_of(recipe(**changes)).node("from").note == note


def test_another_view_may_be_that_of_the_average() -> None:
    data = {"train": "digits:train", "augment": {"crop": 2}, "pairs": "view"}
    changes = reading({"kind": "view", "of": "s0"}, {"kind": "ema"}, data=data)
    assert made(**changes) == [("student", "", "s0"), ("s0", "", "from")]


def test_a_method_hears_all_its_teachers() -> None:
    changes = reading(CNN, MLP, objective=[{"method": "ebkd", "teachers": ["from", "s0"]}])
    assert taught(**changes) == [("from", "ebkd T=4", "student"), ("s0", "ebkd T=4", "student")]


def test_what_no_term_reads_is_named_and_stands_alone() -> None:
    graph = graph_of(recipe(sources={"spare": CNN}))
    assert [node.name for node in graph.apart()] == ["spare"]
    assert lines(graph).splitlines()[-1] == "spare (small_cnn): teaches nobody"


# the student


def test_the_deepest_exit_teaches_the_others() -> None:
    changes = {"teacher": None, "student__exits": 2, "objective": [{"method": "byot"}]}
    assert taught(**changes) == [("student", "byot T=3", f"exit {k}") for k in range(2)]
    graph = graph_of(recipe(**changes))
    labels = [("labels", "truth · 0.9", end) for end in ("student", "exit 0", "exit 1")]
    assert arrows(graph, teaches=False) == labels
    assert graph.node("exit 0").kind == "part"


def test_deep_supervision_is_labels_alone() -> None:
    byot = {"method": "byot", "weight": 0, "hint_weight": 0}
    assert taught(teacher=None, student__exits=2, objective=[byot]) == []


def test_a_deep_layer_teaches_the_student_itself() -> None:
    changes = {"teacher": None, "objective": [{"method": "sad", "student": "a", "theirs": "b"}]}
    assert taught(**changes) == [("student", "sad · 0.1", "student")]


def test_branches_make_an_answer_that_teaches_each_of_them() -> None:
    changes = {"teacher": None, "student": {**CNN, "branches": {"count": 2, "at": "6"}}}
    changes["objective"] = [{"method": "one"}]
    assert taught(**changes) == [("student", "one T=3", f"branch {k}") for k in range(2)]
    assert made(**changes) == [(f"branch {k}", "", "student") for k in range(2)]
    graph = graph_of(recipe(**changes))
    labels = [("labels", "truth", end) for end in ("student", "branch 0", "branch 1")]
    assert arrows(graph, teaches=False)[:3] == labels
    assert graph.node("student").note == "small_cnn, 2 branches by a gate"
    assert (graph.node("branch 0").note, graph.node("branch 1").note) == ("ships", "")


# students


def group(*names: str, **changes: Any) -> dict[str, Any]:
    return {
        "student": None,
        "teacher": None,
        "students": dict.fromkeys(names, MLP),
        "objective": [TRUTH, PEERS],
        **changes,
    }


def test_each_of_three_hears_the_others_in_equal_parts() -> None:
    assert taught(**group("a", "b", "c")) == [
        *[("b", "kl · 1/2", "a"), ("c", "kl · 1/2", "a")],
        *[("a", "kl · 1/2", "b"), ("c", "kl · 1/2", "b")],
        *[("a", "kl · 1/2", "c"), ("b", "kl · 1/2", "c")],
    ]


@pytest.mark.parametrize("teach", ["naive", "linear", "minlogit", "general"])
def test_two_that_teach_as_one_are_a_node(teach: str) -> None:
    changes = group("a", "b", teach=teach)
    assert made(**changes) == [("a", "", "peers"), ("b", "", "peers")]
    assert taught(**changes) == [("peers", "kl", "a"), ("peers", "kl", "b")]


def test_the_mean_of_one_other_is_the_other() -> None:
    assert taught(**group("a", "b", teach="mean")) == [("b", "kl", "a"), ("a", "kl", "b")]
    three = group("a", "b", "c", teach="mean")
    assert taught(**three) == [("peers", "kl", name) for name in "abc"]


def test_a_teacher_is_one_for_all_students_and_an_average_is_of_each() -> None:
    objective = [{"loss": "kl"}, {"loss": "kl", "source": "slow", "name": "mean"}]
    sources = {"slow": {"kind": "ema"}}
    changes = group("a", "b", teacher=CNN, sources=sources, objective=objective)
    assert taught(**changes) == [
        *[("teacher", "kl", "a"), ("slow of a", "mean", "a")],
        *[("teacher", "kl", "b"), ("slow of b", "mean", "b")],
    ]
    assert made(**changes) == [("a", "", "slow of a"), ("b", "", "slow of b")]
    assert graph_of(recipe(**changes)).apart() == []


def test_peers_weigh_one_another_and_their_mean_teaches_the_leader() -> None:
    teach = {"kind": "attention", "features": "1"}
    changes = group("leader", "a", "b", teach=teach)
    assert taught(**changes) == [
        ("mean of peers", "kl", "leader"),
        ("peers", "kl", "a"),
        ("peers", "kl", "b"),
    ]
    assert made(**changes) == [
        *[("a", "", "mean of peers"), ("b", "", "mean of peers")],
        *[("a", "", "peers"), ("b", "", "peers")],
    ]
    assert graph_of(recipe(**changes)).node("peers").note == "weighed by attention"


# chains


def test_each_stage_of_a_chain_is_taught_by_the_one_before() -> None:
    chain = {"assistants": [CNN, CNN]}
    assert taught(chain=chain) == [
        ("teacher", "kl T=4", "assistant-1"),
        ("assistant-1", "kl T=4", "assistant-2"),
        ("assistant-2", "kl T=4", "student"),
    ]


def test_all_before_a_stage_of_a_dense_chain_teach_it_in_equal_parts() -> None:
    chain = {"assistants": [CNN, CNN], "dense": True, "drop": 0.25}
    assert taught(chain=chain, objective__1__weight=0.5) == [
        ("teacher", "kl T=4 · 0.5", "assistant-1"),
        ("teacher", "kl T=4 · 0.5/2", "assistant-2"),
        ("assistant-1", "kl T=4 · 0.5/2", "assistant-2"),
        ("teacher", "kl T=4 · 0.5/3", "student"),
        ("assistant-1", "kl T=4 · 0.5/3", "student"),
        ("assistant-2", "kl T=4 · 0.5/3", "student"),
    ]
    notes = [graph_of(recipe(chain=chain)).node(f"assistant-{k}").note for k in (1, 2)]
    assert notes == ["small_cnn", "small_cnn, drop 0.25"]


def test_a_scheduled_weight_that_is_shared_says_both() -> None:
    ramp = {"schedule": "linear", "start": 0, "stop": 1}
    found = taught(chain={"assistants": [CNN], "dense": True}, objective__1__weight=ramp)
    assert found[-1] == ("assistant-1", "kl T=4 · (0 to 1)/2", "student")


def test_the_recipe_of_a_dense_stage_says_the_same() -> None:
    found = taught(sources={"assistant-1": CNN}, dense={"of": ["teacher", "assistant-1"]})
    assert found == [
        ("teacher", "kl T=4 · 1/2", "student"),
        ("assistant-1", "kl T=4 · 1/2", "student"),
    ]


def test_a_teacher_teaches_the_first_generation() -> None:
    assert taught(chain={"generations": 1}) == [
        ("teacher", "kl T=4", "generation-0"),
        ("generation-0", "kl T=4", "generation-1"),
    ]


def test_each_stage_has_an_average_of_its_own() -> None:
    objective = [TRUTH, {"loss": "kl"}, {"loss": "kl", "source": "slow", "name": "mean"}]
    changes = {"sources": {"slow": {"kind": "ema"}}, "objective": objective}
    found = taught(chain={"generations": 1}, **changes)
    assert ("slow of generation-1", "mean", "generation-1") in found
    assert graph_of(recipe(chain={"generations": 1}, **changes)).apart() == []


# all of them


@pytest.mark.parametrize("path", NEW, ids=lambda path: path.name)
def test_every_new_recipe_has_its_learners_taught(path: Any) -> None:
    connected(graph_of_text(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_has_its_learners_taught(path: Path) -> None:
    connected(graph_of(read(path)))


def connected(graph: Graph) -> None:
    """Nobody stands alone, every arrow has both its ends, and who learns hears somebody."""
    assert graph.apart() == []
    names = [node.name for node in graph.nodes]
    assert len(names) == len({*names})
    assert all({arrow.start, arrow.end} <= {*names} for arrow in graph.arrows)
    ends = {arrow.end for arrow in graph.arrows}
    assert {node.name for node in graph.nodes if node.learns} <= ends
    assert Graph.of(graph.document()) == graph


def test_nothing_is_built_and_no_random_number_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a network was built")

    for place in ("limbeck.recipe.build.build", "limbeck.recipe.chains.build"):
        monkeypatch.setattr(place, never)
    before = torch.get_rng_state()
    chained = recipe(chain={"generations": 1}, student__pretrained=True)
    assert graph_of(chained).arrows
    assert graph_of(recipe(objective=[{"method": "crd", "student": "9"}])).arrows
    assert torch.equal(before, torch.get_rng_state())


def test_a_text_that_is_no_recipe_is_refused() -> None:
    with pytest.raises(LimbeckError, match=r"objective"):
        graph_of_text("data: {train: 'digits:train'}")
