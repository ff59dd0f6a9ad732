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
from .embeddings import (
    AudioStatistics,
    effective_rank,
    mean_cosine,
    ontology_order,
    text_statistics,
    uniformity,
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
    WEIGHTINGS,
    Chance,
    OmAP,
    chance,
    checked_distances,
    checked_levels,
    distances_and_levels,
    level_weights,
    nearest_positive,
    omap,
    omap_naive,
    omap_terms,
)
from .torchmetric import omap_on_device

__all__ = [
    "INTERVALS", "METRICS", "PLAIN_COSTS", "WEIGHTINGS", "AudioStatistics", "Chance", "Comparison",
    "Interval", "OmAP", "ap_naive", "ap_of_classes", "as_array", "auc", "average_precision",
    "average_precision_with_costs", "bootstrap", "chance", "checked_distances", "checked_levels",
    "checked_scores", "checked_targets", "checked_weights", "class_ap", "class_auc", "columns",
    "count_reached", "d_prime", "distances_and_levels", "effective_rank", "level_weights",
    "mean_average_precision", "mean_cosine", "mean_of_classes", "measure", "nearest_positive", "omap",
    "omap_naive", "omap_on_device", "omap_terms", "ontology_order", "paired_bootstrap", "paired_interval",
    "per_class_gain", "random_ap", "resampled", "text_statistics", "uniformity",
]
