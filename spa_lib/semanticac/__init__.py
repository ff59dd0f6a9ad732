"""SemanticAC, the second paper: audio classification by aligning clips with the text of their labels."""
from .losses import (
    LOSSES, apart_loss, diagonal_loss, multi_positive_loss, semantic_loss, similarity_matrix,
)
from .text_tower import (
    PROMPTS, TOWERS, SentenceTower, TextTower, clip_merges, learn_merges, load_clip, make_tower, prompted,
    tokenizer,
)
from .model import (
    CBAM, CSCM, SIMILARITY, SPA, Baseline, FlatProjection, MapEncoder, MeanEncoder, PlainProjection,
    SemanticAC, SeqLSTM, SeqTransf, Untouched, count_parameters, is_correct, make_similarity,
)
from .config import (
    SEMANTIC_SCALES, SemanticClips, SemanticConfig, SemanticModel, SemanticRecipe, encoder_in_words,
    find_semantic, read_semantic, semantic_config, semantic_dir, semantic_name, semantic_variant,
)
from .studies import ARTEFACTS, FOLDS, NOTEBOOKS, SEEDS, runs_of, semantic_runs, study, study_command
from .train import (
    SemanticTask, Sides, accuracy, augment, change_speed, example_batch, load_sides, make_map_encoder,
    make_system, ontology_scores, recompute_norms, score_clips, train_semantic,
)
from .tables import (
    CORPORA, LIKE_FOR_LIKE, PAPER_ACCURACY, accuracy_table, artefact_table, clips_in_words, differences,
    draw_accuracy, paper_accuracy, semantic_caption, semantic_provenance,
)

__all__ = [
    "ARTEFACTS", "CBAM", "CORPORA", "CSCM", "FOLDS", "LIKE_FOR_LIKE", "LOSSES", "NOTEBOOKS", "PAPER_ACCURACY",
    "PROMPTS", "SEEDS", "SEMANTIC_SCALES", "SIMILARITY", "SPA", "TOWERS", "Baseline", "FlatProjection",
    "MapEncoder", "MeanEncoder", "PlainProjection", "SemanticAC", "SemanticClips", "SemanticConfig",
    "SemanticModel", "SemanticRecipe", "SemanticTask", "SentenceTower", "SeqLSTM", "SeqTransf", "Sides",
    "TextTower", "Untouched", "accuracy", "accuracy_table", "apart_loss", "artefact_table", "augment",
    "change_speed", "clip_merges", "clips_in_words", "count_parameters", "diagonal_loss", "differences",
    "draw_accuracy", "encoder_in_words", "example_batch", "find_semantic", "is_correct", "learn_merges",
    "load_clip", "load_sides", "make_map_encoder", "make_similarity", "make_system", "make_tower",
    "multi_positive_loss", "ontology_scores", "paper_accuracy", "prompted", "read_semantic",
    "recompute_norms", "runs_of", "score_clips", "semantic_caption", "semantic_config", "semantic_dir",
    "semantic_loss", "semantic_name", "semantic_provenance", "semantic_runs", "semantic_variant",
    "similarity_matrix", "study", "study_command", "tokenizer", "train_semantic",
]
