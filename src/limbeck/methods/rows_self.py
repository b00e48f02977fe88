"""The rows of the methods by which a student teaches itself."""

from limbeck.methods.index import Method

ROWS = (
    Method(
        name="byot",
        family="self",
        signal="logits, features of exits",
        formula="sum_k [(1-a) CE_k + a T^2 KL(p || q_k) + b sum_c (f_kc - F_c)^2 where active]",
        paper="Zhang et al., ICCV 2019, arXiv 1905.08094",
        taps="a student in limbeck.exits.Exits, which has the exits that train",
        aliases=("be_your_own_teacher", "self_distillation"),
        limits="Most of the gain is that of the exits' own labels: measure both weights at 0.",
    ),
)
