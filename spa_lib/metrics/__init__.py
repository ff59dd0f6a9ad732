"""What a tagger is scored by: OmAP, mAP, intervals, statistics of embeddings."""
from .ap import PLAIN, ap_naive, as_array, auc, average_precision, checked_scores, checked_targets, class_ap, class_auc, columns, count_reached, d_prime, graded_average_precision, mean_average_precision, mean_of_classes, random_ap
from .ontology_ap import INTERVALS, METRICS, WEIGHTINGS, Chance, Comparison, Interval, OmAP, bootstrap, chance, level_weights, nearest_positive, omap, omap_naive, paired_bootstrap, paired_interval, per_class_gain
from .embeddings import AudioGauges, effective_rank, mean_cosine, ontology_order, text_gauges, uniformity
from .torchmetric import omap_on_device

__all__ = ["INTERVALS", "METRICS", "PLAIN", "WEIGHTINGS", "AudioGauges", "Chance", "Comparison", "Interval", "OmAP", "ap_naive", "as_array", "auc", "average_precision", "bootstrap", "chance", "checked_scores", "checked_targets", "class_ap", "class_auc", "columns", "count_reached", "d_prime", "effective_rank", "graded_average_precision", "level_weights", "mean_average_precision", "mean_cosine", "mean_of_classes", "nearest_positive", "omap", "omap_naive", "omap_on_device", "ontology_order", "paired_bootstrap", "paired_interval", "per_class_gain", "random_ap", "text_gauges", "uniformity"]
