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
    Method(
        name="fixmatch",
        family="self",
        signal="logits of two views",
        formula="(1/n) sum [max p > tau] CE(q, argmax p), p of a weak and q of a strong view",
        paper="Sohn et al., NeurIPS 2020, arXiv 2001.07685",
        taps="output, of batches of two halves: strong views, then weak ones",
        limits="What is surely wrong is learned for good; at first nothing may be sure.",
    ),
    Method(
        name="uda",
        family="self",
        signal="logits of two views",
        formula="(1/n) sum [max p > tau] KL(p' || q), p' = softmax(t / T) of a weak view",
        paper="Xie et al., NeurIPS 2020, arXiv 1904.12848",
        taps="output, of batches of two halves: strong views, then weak ones",
        limits="As fixmatch; without a threshold or sharpening all may agree on one class.",
    ),
    Method(
        name="one",
        family="self",
        signal="logits of branches",
        formula="CE(z) + sum_k CE_k + T^2 sum_k KL(p || q_k), z = sum_k g_k z_k",
        paper="Lan et al., NeurIPS 2018, arXiv 1806.04606",
        taps="a student in limbeck.exits.Branched, whose branches and gate train",
        aliases=("on_the_fly_native_ensemble",),
        limits="A branch costs its part of a forward; measure the labels of all at weight 0.",
    ),
)
