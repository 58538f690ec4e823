"""Clusters of activations, and how well they are told apart."""

from analysis.metric import ACTIVATION, NUMBER, PART, Metric, permuted

ROWS: dict[str, Metric] = {
    # clusters
    "tau": Metric(
        r"mean $\tau$",
        ACTIVATION,
        "An activation lies so much nearer the mean of safe prompts than that of unsafe ones (Eq. 2).",
    ),
    "tau_sd": Metric(r"spread of $\tau$", ACTIVATION, "This is the standard deviation of `tau` over prompts."),
    "tau_successful": Metric(
        r"mean $\tau$, complied", ACTIVATION, "This is the mean `tau` of the prompts that were complied with."
    ),
    "tau_group": Metric(
        r"mean $\tau$", ACTIVATION, "This is the mean `tau` of the prompts with a letter of concept group `index`."
    ),
    "separation": Metric(
        "separation",
        ACTIVATION,
        "This is the mean `tau` of safe prompts less that of unsafe ones.",
        permuted("separation", False),
        0.0,
    ),
    "separation_scaled": Metric(
        "separation, scaled",
        NUMBER,
        "This is `separation` divided by `spread`.",
        permuted("separation_scaled", False),
        0.0,
    ),
    "mean_distance": Metric(
        "distance of means",
        ACTIVATION,
        "This is the distance between the means of the two clusters.",
        permuted("mean_distance", False),
    ),
    "spread": Metric(
        "spread", ACTIVATION, "This is the root mean squared distance of activations to their own cluster's mean."
    ),
    # separability
    "kmeans_accuracy": Metric(
        "k-means accuracy",
        PART,
        "This share of the prompts lies in the k-means cluster of its label.",
        permuted("kmeans_accuracy"),
    ),
    "probe_accuracy": Metric(
        "probe accuracy",
        PART,
        "A linear probe that was fitted to other prompts is right about this share.",
        permuted("probe_accuracy"),
    ),
    "fisher": Metric(
        "Fisher criterion",
        NUMBER,
        "This is the variance between the clusters over that within, with a ridge.",
        permuted("fisher"),
    ),
    "fisher_unridged": Metric(
        "Fisher criterion, no ridge", NUMBER, "This is `fisher` without its ridge.", permuted("fisher_unridged")
    ),
    "silhouette": Metric(
        "silhouette", NUMBER, "This is the mean silhouette of safe and unsafe prompts.", permuted("silhouette")
    ),
    "spectral_share": Metric(
        "spectral share",
        PART,
        "The first direction of a cluster's covariance holds this share of its trace.",
        permuted("spectral_share"),
    ),
    "covariance_sigma": Metric(
        r"$\sigma_i(\Sigma)$",
        "activation squared",
        "This is singular value `index` of a cluster's covariance.",
        permuted("covariance_sigma", False, False),
    ),
    "pca": Metric(
        "principal component", ACTIVATION, "This is a prompt's coordinate along principal component `index`."
    ),
    "lda": Metric(
        "discriminant", NUMBER, "This is a prompt's coordinate along a linear discriminant fitted to other prompts."
    ),
}
