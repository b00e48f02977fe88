"""The losses of token models, learned pairs of layers and pooled features under law."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.losses.subject import Subject, alike, maps

from limbeck import losses


def queries_and_keys(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A loss on queries and keys that lie in one array, side by side."""

    def called(s: Any, t: Any, **keys: Any) -> Any:
        return loss(s[..., :4], t[..., :4], s[..., 4:], t[..., 4:], **keys)

    return called


LOGARITHM = frozenset({"equality", "negativity", "empty"})  # ln(eps) at equality and of nothing
DIVERGENCES = {
    "topk_kl": Subject(partial(losses.topk_kl, k=2, temperature=2.0), alike(3, 5), 3),
    "topk_kl of all": Subject(partial(losses.topk_kl, k=5), alike(5)),
    "topk_kl renormalised": Subject(
        partial(losses.topk_kl, k=3, tail="renormalise"), alike(3, 5), 3
    ),
    "uld": Subject(losses.uld, alike(3, 5), 3),
}
PSEUDO = {
    "topk_kl dropped": Subject(
        partial(losses.topk_kl, k=2, tail="drop"),
        alike(3, 5),
        3,
        frozenset({"negativity"}),  # a part of a sum whose other terms may be positive
    ),
}
FEATURES = {
    "afd": Subject(losses.afd, maps),
    "cosine": Subject(losses.cosine, alike(3, 4), 3),
    "margin_mse": Subject(losses.margin_mse, alike(4), 3),
    "minilm_attention": Subject(
        queries_and_keys(partial(losses.minilm_attention, heads=2)), alike(3, 8), 3
    ),
    "minilm_relation": Subject(partial(losses.minilm_relation, heads=2), alike(3, 4), 3),
    "pkd_bert": Subject(losses.pkd_bert, alike(3, 4)),
    "tinybert_attention": Subject(losses.tinybert_attention, alike(2, 3, 3), 18),
    "vitkd_mimic": Subject(losses.vitkd_mimic, alike(3, 4), 3),
    "vkd": Subject(
        losses.vkd,
        alike(3, 4),
        1,
        frozenset({"equality"}),  # the source alone is normalised
    ),
}
RELATIONS = {
    "srd_correlation": Subject(losses.srd_correlation, alike(4), 1, LOGARITHM),
    "srd_logsum": Subject(losses.srd_logsum, alike(4), 1, LOGARITHM),
}
