"""What a tagger is scored by (section 4.1): OmAP, mAP, intervals, statistics of embeddings."""
from .ap import (
    PLAIN_COSTS,
    ap_naive,
    ap_of_classes,
    as_array,
    auc,
    average_precision,
    average_precision_with_costs,
    checked_scores,
    checked_targets,
    checked_weights,
    class_ap,
    class_auc,
    columns,
    count_reached,
    d_prime,
    mean_average_precision,
    mean_of_classes,
    random_ap,
)
from .device import (
    AVERAGES,
    omap_of_tensors,
    omap_on_device,
    ontology_average_precision,
    refuse_faults,
    tensors_of,
)
from .embeddings import (
    AudioStatistics,
    effective_rank,
    mean_cosine,
    ontology_order,
    text_statistics,
    uniformity,
)
from .hierarchical import (
    HierarchicalF,
    hierarchical_distance,
    hierarchical_f,
    lca_heights,
    mistake_severity,
    with_nodes_above,
)
from .intervals import (
    INTERVALS,
    METRICS,
    Comparison,
    Interval,
    bootstrap,
    measure,
    paired_bootstrap,
    paired_interval,
    per_class_gain,
    resampled,
)
from .ontology_ap import (
    EMPTY,
    WEIGHTINGS,
    Chance,
    OmAP,
    chance,
    checked_distances,
    checked_levels,
    distances_and_levels,
    keep_labelled,
    level_weights,
    nearest_positive,
    omap,
    omap_naive,
    omap_terms,
)
from .scorer import omap_score, omap_scorer


def __getattr__(name: str) -> object:
    "`OntologyAveragePrecision`, loaded when it is asked for: it needs the extra `metrics`."
    if name != "OntologyAveragePrecision":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .torchmetric import OntologyAveragePrecision
    except ModuleNotFoundError as e:
        raise ImportError("OntologyAveragePrecision needs torchmetrics: pip install 'spa_lib[metrics]'; "
                          "spa_lib.metrics.ontology_average_precision does without") from e
    return OntologyAveragePrecision

__all__ = [
    "AVERAGES", "EMPTY", "INTERVALS", "METRICS", "PLAIN_COSTS", "WEIGHTINGS", "AudioStatistics", "Chance",
    "Comparison", "HierarchicalF", "Interval", "OmAP", "ap_naive", "ap_of_classes", "as_array", "auc",
    "average_precision", "average_precision_with_costs", "bootstrap", "chance", "checked_distances",
    "checked_levels", "checked_scores", "checked_targets", "checked_weights", "class_ap", "class_auc",
    "columns", "count_reached", "d_prime", "distances_and_levels", "effective_rank", "hierarchical_distance",
    "hierarchical_f", "keep_labelled", "lca_heights", "level_weights", "mean_average_precision",
    "mean_cosine", "mean_of_classes", "measure", "mistake_severity", "nearest_positive", "omap", "omap_naive",
    "omap_of_tensors", "omap_on_device", "omap_score", "omap_scorer", "omap_terms",
    "ontology_average_precision", "ontology_order", "paired_bootstrap", "paired_interval", "per_class_gain",
    "random_ap", "refuse_faults", "resampled", "tensors_of", "text_statistics", "uniformity",
    "with_nodes_above",
]
