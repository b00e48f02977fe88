"""The rows of the methods for several labels at once, and for numbers."""

from limbeck.methods.index import Method

ROWS: tuple[Method, ...] = (
    Method(
        name="binary_kl",
        family="sigmoid",
        signal="logits of several labels",
        formula="T^2 sum_c KL(Ber(sigma(t/T)) || Ber(sigma(s/T)))",
        paper="Yang et al. (L2D), ICCV 2023, arXiv 2308.06453",
        aliases=("multilabel_kd", "bernoulli_kl"),
        limits="Classes must be independent: of classes that exclude each other it is not `kd`.",
    ),
    Method(
        name="binary_hard",
        family="sigmoid",
        signal="logits of several labels",
        formula="sum_c BCE(s, t > 0)",
        paper="Lee (Pseudo-label), ICML workshop 2013",
        limits="Throws the teacher's doubt away: the honest baseline of `binary_kl`.",
    ),
    Method(
        name="squared_error",
        family="sigmoid",
        signal="numbers",
        formula="mean (s - t)^2",
        paper="Ba, Caruana, NeurIPS 2014, arXiv 1312.6184",
        aliases=("regression_kd", "mse_kd"),
        limits="A teacher that errs far out is copied there too.",
    ),
)
