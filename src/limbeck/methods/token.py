"""Methods on tokens: their states and attention, the next one's distribution, embeddings of text.

`student` and `theirs` are signals, the same name unless said. Weights are the papers', in the units
of `limbeck.losses`. Methods on text read which tokens count from `mask`, a signal (B, N), and
leave it out at None; `limbeck.tokens.causal` makes labels and mask of a causal model. Layers are
lists of pairs of signals: `named(uniform(6, 12), "output.hidden_states.{}")` of `methods.layers`.
"""

from collections.abc import Iterable

from limbeck import losses, projectors
from limbeck.dials import Weight
from limbeck.losses.sparse import Tail
from limbeck.methods.common import objective
from limbeck.methods.layers import matches
from limbeck.methods.restoration import Generation, aligned
from limbeck.objective import Match, Objective, Sum
from limbeck.schedules import Schedule

Layers = Iterable[tuple[str, str]]
Heads = tuple[str, str, str]
MASK = "data:mask"


def masked(mask: str | None) -> dict[str, str]:
    """What binds a mask, if there is one."""
    return {} if mask is None else {"mask": mask}


def token_kd(
    temperature: float | Schedule = 1.0,
    *,
    student: str = "output.logits",
    theirs: str | None = None,
    mask: str | None = MASK,
    weight: Weight = 0.5,
    truth_weight: Weight = 0.5,
) -> Objective:
    """Word-level distillation: the next token's distribution, over the tokens that count.

    >>> token_kd().parts()
    ['truth', 'kl']
    """
    term = Match(losses.kl, student, theirs, given=masked(mask), temperature=temperature)
    return objective(truth_weight, weight * term, student)


def topk_tail_kd(
    k: int = 64,
    tail: Tail = "bucket",
    temperature: float | Schedule = 1.0,
    *,
    student: str = "output.logits",
    theirs: str | None = None,
    mask: str | None = MASK,
    weight: Weight = 0.5,
    truth_weight: Weight = 0.5,
) -> Objective:
    """The next token's distribution on the teacher's k most likely tokens; `tail` says what then.

    A source that is stored so is `Match(losses.sparse_kl, ..., given={"index": ...})`.

    >>> topk_tail_kd(k=8).parts()
    ['truth', 'topk_kl']
    """
    options = {"k": k, "tail": tail, "temperature": temperature}
    term = Match(losses.topk_kl, student, theirs, given=masked(mask), **options)
    return objective(truth_weight, weight * term, student)


def uld(
    *,
    student: str = "output.logits",
    theirs: str | None = None,
    mask: str | None = MASK,
    weight: Weight = 1.5,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Sorted probabilities, for a teacher with another vocabulary. Align the tokens beforehand.

    >>> uld().parts()
    ['truth', 'uld']
    """
    term = Match(losses.uld, student, theirs, given=masked(mask))
    return objective(truth_weight, weight * term, student)


def distilbert(
    temperature: float | Schedule = 2.0,
    *,
    student: str = "output.logits",
    states: str = "output.hidden_states.6",
    theirs: str = "output.hidden_states.12",
    mask: str | None = MASK,
    weight: Weight = 5.0,
    cosine_weight: Weight = 1.0,
    truth_weight: Weight = 2.0,
) -> Objective:
    """Logits, and the direction of the last states; start from every second layer of the teacher.

    The logits count where `mask` says, the states too.

    >>> distilbert().parts()
    ['truth', 'kl', 'cosine']
    """
    soft = Match(losses.kl, student, given=masked(mask), temperature=temperature)
    direction = Match(losses.cosine, states, theirs, given=masked(mask))
    return objective(truth_weight, weight * soft + cosine_weight * direction, student)


def pkd_bert(
    layers: Layers,
    *,
    temperature: float | Schedule = 10.0,
    student: str = "output.logits",
    weight: Weight = 0.13,
    kd_weight: Weight = 0.5,
    truth_weight: Weight = 0.5,
) -> Objective:
    """Patience: the class token's states of mapped layers, by `skip` or `last` of `methods.layers`.

    The paper's weight is searched in 10 ... 1000 on the mean over the width: 100/768 here, for all
    layers together. Its T is searched in 5, 10, 20, the weight of the soft labels in 0.2 ... 0.7.

    >>> from limbeck.methods.layers import named, skip
    >>> pkd_bert(named(skip(3, 6), "output.hidden_states.{}")).parts()
    ['truth', 'kl', 'pkd_bert[output.hidden_states.1]', 'pkd_bert[output.hidden_states.2]']
    """
    states = matches(losses.pkd_bert, layers)
    patience = Sum((1 / len(states), match) for match in states)
    soft = Match(losses.kl, student, temperature=temperature)
    return objective(truth_weight, kd_weight * soft + weight * patience, student)


def tinybert(
    hidden: Layers, attention: Layers, *, mask: str | None = MASK, weight: Weight = 1.0
) -> Objective:
    """States by a linear map a layer, and attention scores before the softmax; no labels.

    The authors train one linear map for all layers, and the logits in a stage of their own (`kd`).
    Libraries return probabilities as "attentions": give the scores names by a `Reader`.

    >>> from limbeck.methods.layers import attentions, named, uniform
    >>> pairs = uniform(1, 3)
    >>> scores = named(attentions(pairs), "scores.{}")
    >>> tinybert(named(pairs, "output.hidden_states.{}"), scores).parts()
    ['hint[output.hidden_states.0]', 'hint[output.hidden_states.1]', 'tinybert_attention[scores.0]']
    """
    given, options = masked(mask), {"axis": -1}
    states = matches(losses.hint, hidden, project=projectors.linear, given=given, options=options)
    scores = matches(losses.tinybert_attention, attention, given=given)
    return Sum((weight, match) for match in (*states, *scores))


def minilm(
    student: Heads,
    theirs: Heads | None = None,
    *,
    heads: int = 12,
    mask: str | None = MASK,
    weight: Weight = 1.0,
) -> Objective:
    """Attention and the relation of values, of the last layer of both sides; no labels.

    `student` and `theirs` name queries, keys and values (B, N, D), heads side by side.

    >>> minilm(("attn.q", "attn.k", "attn.v"), heads=2).parts()
    ['minilm_attention[attn.q]', 'minilm_relation[attn.v]']
    """
    theirs = theirs or student
    keys = {"s_keys": f"student:{student[1]}", "t_keys": f"teacher:{theirs[1]}"}
    given = keys | masked(mask)
    attention = Match(losses.minilm_attention, student[0], theirs[0], given=given, heads=heads)
    values = Match(losses.minilm_relation, student[2], theirs[2], given=masked(mask), heads=heads)
    return Sum([(weight, attention), (weight, values)])


def minilmv2(
    student: Heads,
    theirs: Heads | None = None,
    *,
    heads: int = 48,
    mask: str | None = MASK,
    weight: Weight = 1.0,
) -> Objective:
    """Relations of queries, keys and values, of the student's last layer; no labels.

    `heads` are relation heads, a divisor of both widths; 48 for a teacher of base size, 64 for a
    large one, of which the paper takes a layer before the last (21 of 24). The models' own heads
    may differ in number.

    >>> len(minilmv2(("attn.q", "attn.k", "attn.v"), heads=4).parts())
    3
    """
    names = zip(student, theirs or student, strict=True)
    options = {"heads": heads}
    terms = matches(losses.minilm_relation, names, given=masked(mask), options=options)
    return Sum((weight, match) for match in terms)


def margin_mse(
    student: str = "output", theirs: str | None = None, *, weight: Weight = 1.0
) -> Objective:
    """Margins between a query's positive and its negatives; no labels.

    >>> margin_mse("scores").parts()
    ['margin_mse[scores]']
    """
    return weight * Match(losses.margin_mse, student, theirs)


def embedding_mse(
    student: str = "output", theirs: str | None = None, *, weight: Weight = 1.0
) -> Objective:
    """The teacher's embedding itself, by a linear map; no labels.

    >>> embedding_mse("pooled").parts()
    ['hint[pooled]']
    """
    return weight * Match(losses.hint, student, theirs, project=projectors.linear, axis=-1)


def embedding_cosine(
    student: str = "output", theirs: str | None = None, *, weight: Weight = 1.0
) -> Objective:
    """The direction of the teacher's embedding, of the student's own width; no labels.

    >>> embedding_cosine("pooled").parts()
    ['cosine[pooled]']
    """
    return weight * Match(losses.cosine, student, theirs)


def vitkd(
    shallow: Layers,
    deep: tuple[str, str],
    *,
    extra: int = 1,
    weight: Weight = 0.00588,
    generation_weight: Weight = 0.000588,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Vision transformers: mimic the first two blocks, restore the last from half of its patches.

    `extra` class and register tokens stand before the patches. The authors' weights are 3e-5 and
    3e-6 on sums over patches: times N here, 0.00588 and 0.000588 for 196.

    >>> vitkd([("blocks.0", "blocks.0"), ("blocks.1", "blocks.1")], ("blocks.11",) * 2).parts()
    ['truth', 'vitkd_mimic[blocks.0]', 'vitkd_mimic[blocks.1]', 'generation[blocks.11]']
    """
    mimicking = matches(losses.vitkd_mimic, shallow, project=aligned)
    term = Sum((weight, match) for match in mimicking)
    return objective(truth_weight, term + generation_weight * Generation(*deep, extra=extra))
