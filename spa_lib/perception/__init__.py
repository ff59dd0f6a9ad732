"""Section 4.2.3: what people hear, and whether a tagger's scores agree with it."""
from .design import (
    DIRECTIONS, POOLS, ListeningTest, choose_classes, class_differences, draw_clips, draw_test, make_test,
    pack_clips, read_test, split_halves, synthetic_run,
)
from .answers import (
    ANSWER_COLUMNS, CUT_OFF, EVENTS, AnswersError, Session, check_name, csv_lines, file_head,
    read_participants,
)
from .panel import (
    KEY_SCRIPT, PANEL_STYLE, SCREEN_SCRIPT, Panel, demo_test, listening_test,
)
from .scores import (
    READINGS, TIE_RULES, agreement, chance_consistency, consistency, consistency_samples,
    consistency_table, interval_of, is_simulated, selection_effect, simulate_answers, summary,
    trial_labels, trial_scores, votes,
)
from .confusion import (
    DISPLAY_NAMES, HUMAN_LABEL_COLUMNS, Mantel, chosen_rank, confusion_counts, esc50_classes,
    half_correlations, joint_activation, mantel, mutual_confusion, pair_correlation, read_human_labels,
    resampled_weights, whole_from_half, wrong_activation,
)

__all__ = [
    "ANSWER_COLUMNS", "CUT_OFF", "DIRECTIONS", "DISPLAY_NAMES", "EVENTS", "HUMAN_LABEL_COLUMNS",
    "KEY_SCRIPT", "PANEL_STYLE", "POOLS", "READINGS", "SCREEN_SCRIPT", "TIE_RULES", "AnswersError",
    "ListeningTest", "Mantel", "Panel", "Session", "agreement", "chance_consistency", "check_name",
    "choose_classes", "chosen_rank", "class_differences", "confusion_counts", "consistency",
    "consistency_samples", "consistency_table", "csv_lines", "demo_test", "draw_clips", "draw_test",
    "esc50_classes", "file_head", "half_correlations", "interval_of", "is_simulated", "joint_activation",
    "listening_test", "make_test", "mantel", "mutual_confusion", "pack_clips", "pair_correlation",
    "read_human_labels", "read_participants", "read_test", "resampled_weights", "selection_effect",
    "simulate_answers", "split_halves", "summary", "synthetic_run", "trial_labels", "trial_scores",
    "votes", "whole_from_half", "wrong_activation",
]
