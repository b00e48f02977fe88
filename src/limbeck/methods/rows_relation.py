"""The rows of the relation methods."""

from limbeck.methods.index import Method

PAIR = "CIFAR-100, ResNet-32x4 (79.42) to 8x4 (72.50)"
OTHER = "to ShuffleNetV1 (70.50)"
LAST = "the last map before pooling: layer4 of a ResNet"
LOCAL = "sees its piece of the batch alone"
POOLED = "the input of the classifier: avgpool or global_pool"
ROWS = (
    Method(
        name="rkd",
        family="relation",
        signal="pooled features",
        formula="25 mean_pairs huber(d_s/mu_s - d_t/mu_t) + 50 mean_triples huber(cos_s - cos_t)",
        paper="Park et al., CVPR 2019, arXiv 1904.05068",
        taps=POOLED,
        aliases=("relational",),
        limits=f"{LOCAL}; loses to labels alone for some pairs in published tables",
        published=f"{PAIR} 71.90",
    ),
    Method(
        name="pkt",
        family="relation",
        signal="pooled features",
        formula="mean_i KL(P_i || Q_i), rows of (cos + 1)/2 over their sums",
        paper="Passalis, Tefas, ECCV 2018, arXiv 1803.10837",
        taps=POOLED,
        aliases=("probabilistic_kt",),
        limits=LOCAL,
        published=f"{PAIR} 73.64",
    ),
    Method(
        name="sp",
        family="relation",
        signal="features",
        formula="mean_i |g(s)_i - g(t)_i|^2, g the unit rows of FF'",
        paper="Tung, Mori, ICCV 2019, arXiv 1907.09682",
        taps=LAST,
        aliases=("similarity_preserving",),
        limits=LOCAL,
        published=f"{PAIR} 72.94",
    ),
    Method(
        name="cc",
        family="relation",
        signal="pooled features",
        formula="mean_ij (K(s)_ij - K(t)_ij)^2, K a Gaussian kernel as a series",
        paper="Peng et al., ICCV 2019, arXiv 1904.01802",
        taps=POOLED,
        aliases=("correlation_congruence",),
        limits=f"{LOCAL}; published figures are of another loss under this name",
    ),
    Method(
        name="ickd",
        family="relation",
        signal="maps",
        formula="mean_bc |g(s)_bc - g(t)_bc|^2, g the unit rows of channel products FF'",
        paper="Liu et al., ICCV 2021, arXiv 2202.03680",
        parameters="1x1 convolution and batch norm",
        taps=LAST,
        aliases=("inter_channel_correlation",),
        limits="memory B*C^2; the authors' figures have kd beside it",
    ),
    Method(
        name="irg",
        family="relation",
        signal="logits, two layers",
        formula="0.1 mean (s - t)^2 + 5 mean (E_s - E_t)^2 + 5 mean (d_s - d_t)^2, E, d distances",
        paper="Liu et al., CVPR 2019",
        taps="output and two blocks of one stage: layer4.0, layer4.1",
        aliases=("instance_relationship_graph",),
        limits=f"{LOCAL}; the same classes; weights of a port, the authors' code is Caffe",
    ),
    Method(
        name="linear_cka",
        family="relation",
        signal="pooled features",
        formula="1 - <K, L>/(|K| |L|), centred kernels XX' and YY'",
        paper="Kornblith et al., ICML 2019, arXiv 1905.00414",
        taps=POOLED,
        aliases=("cka",),
        limits=f"{LOCAL}; two samples are always alike; no authors' weight",
    ),
    Method(
        name="crd",
        family="relation",
        signal="pooled features, ids",
        formula="-log P_0/(P_0 + K/N) - sum_k log (K/N)/(P_k + K/N), both sides, P = exp(x.m/T)/Z",
        paper="Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699",
        parameters="two linear layers to 128; two memories of N x 128",
        taps=POOLED,
        aliases=("contrastive",),
        limits="8*N*128 bytes: 51 MB for 50,000 samples, 1.3 GB for ImageNet; ids in every batch",
        published=f"{PAIR} 75.51, {OTHER} 75.11",
    ),
)
