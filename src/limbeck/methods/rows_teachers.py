"""The rows of the methods of several teachers."""

from limbeck.methods.index import Method

SAME = "all teachers have the student's classes"

ROWS = (
    Method(
        name="ebkd",
        family="teachers",
        signal="logits of each",
        formula="T^2 sum_k w_k KL(p_k || q), w_k = (1 - H_k / sum H) / (K - 1)",
        paper="Kwon et al., ICASSP 2020",
        aliases=("entropy_based",),
        limits=f"A teacher that is sure and wrong is heard; {SAME}.",
    ),
    Method(
        name="camkd",
        family="teachers",
        signal="logits of each, labels",
        formula="T^2 sum_k w_k KL(p_k || q), w_k = (1 - softmax_k(CE_k)) / (K - 1)",
        paper="Zhang et al., ICASSP 2022, arXiv 2201.00007",
        aliases=("ca_mkd", "confidence_aware"),
        limits=f"Without labels no better than equal weights; {SAME}.",
    ),
    Method(
        name="aekd",
        family="teachers",
        signal="logits of each",
        formula="T^2 sum_k a_k KL(p_k || q), a = argmin |sum_k a_k g_k|^2, a_k <= C",
        paper="Du et al. (AE-KD), NeurIPS 2020",
        aliases=("ae_kd", "adaptive_ensemble"),
        limits=f"Waits for the GPU in each step; not unique for two classes; {SAME}.",
    ),
    Method(
        name="amtml",
        family="teachers",
        signal="logits of each, features",
        formula="T^2 KL(sum_k w_k p_k || q), w = softmax_k(v . (u_k * a))",
        paper="Liu et al. (AMTML-KD), Neurocomputing 2020, arXiv 2103.04062",
        parameters="a vector a teacher and one of the channels' importance",
        taps="output and the last map or the pooled features",
        aliases=("amtml_kd",),
        limits=f"The weights go to the teacher that is easiest to follow; {SAME}.",
    ),
)
