"""The losses under law, by what they obey.

Item losses obey all laws. Batch losses compare samples: they are exempt from duplication and from
micro-batch splits. Families bring their own files.
"""

from functools import partial

from tests.losses import (
    subjects_dense,
    subjects_feature,
    subjects_logit,
    subjects_relation,
    subjects_sigmoid,
    subjects_token,
)
from tests.losses.subject import Subject, alike, labelled, maps, mixed

from limbeck import losses

DIVERGENCES = {
    "kl": Subject(losses.kl, alike(5)),
    "kl at 4": Subject(partial(losses.kl, temperature=4.0), alike(3, 5), 3),
    "kl of maps": Subject(partial(losses.kl, axis=1, temperature=0.5), alike(5, 2, 3), 6),
    "reverse_kl": Subject(losses.reverse_kl, alike(3, 5), 3),
    "reverse_kl at 4": Subject(partial(losses.reverse_kl, temperature=4.0), alike(5)),
    **subjects_token.DIVERGENCES,
    **subjects_logit.DIVERGENCES,
    **subjects_sigmoid.DIVERGENCES,
}
HARD = {
    "cross_entropy": Subject(losses.cross_entropy, labelled, 3),
    "cross_entropy smoothed": Subject(
        partial(losses.cross_entropy, label_smoothing=0.2), labelled, 3
    ),
    "cross_entropy mixed": Subject(partial(losses.cross_entropy, label_smoothing=0.1), mixed),
    **subjects_logit.HARD,
}
PSEUDO = (
    {"hard": Subject(losses.hard, alike(3, 5), 3)}
    | subjects_token.PSEUDO
    | subjects_logit.PSEUDO
    | subjects_sigmoid.PSEUDO
)
FEATURES = {
    "hint": Subject(losses.hint, alike(4, 2, 3), 6),
    "hint of tokens": Subject(partial(losses.hint, axis=-1), alike(3, 4), 3),
    "attention": Subject(losses.attention, maps),
    **subjects_dense.FEATURES,
    **subjects_feature.FEATURES,
    **subjects_token.FEATURES,
    **subjects_logit.FEATURES,
    **subjects_relation.FEATURES,
    **subjects_sigmoid.FEATURES,
}
RELATIONS = {
    "rkd_distance": Subject(losses.rkd_distance, alike(4)),
    "rkd_angle": Subject(losses.rkd_angle, alike(2, 2)),
    **subjects_dense.RELATIONS,
    **subjects_token.RELATIONS,
    **subjects_logit.RELATIONS,
    **subjects_relation.RELATIONS,
}
LOGITS = DIVERGENCES | HARD | PSEUDO
ITEMS = LOGITS | FEATURES
ALL = ITEMS | RELATIONS
ZERO_AT_EQUALITY = DIVERGENCES | FEATURES | RELATIONS
