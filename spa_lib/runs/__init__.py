"""One run: its configuration, its recipe, its folder, and how runs are compared."""
from .recipe import (
    FACTS, OPTIMIZERS, RATE_STEPS, RECIPES, SAMPLERS, SCHEDULES, Recipe, class_turn, epoch_order,
    halving_factor, make_optimizer, mixup, rate_factor, run_values, schedule_factor,
)
from .config import (
    AUDIOSET, BY_ENCODER, PRETRAINED, SCALES, AtLeast, AtMost, ClipsConfig, LessThan, Local, ModelConfig,
    NamePart, NonNegativeFloat, NonNegativeInt, OneOf, PositiveInt, Rate, RecipeConfig, RunConfig,
    check_together, checked_config, config_hash, encoder_of, identity, local_fields, make_config,
    parse_values, parse_where, published_recipe, released_checkpoint, run_name, runs_dir, start_values,
    variant_of, variant_values,
)
from .folder import (
    MARK, NAMES, DamagedRun, FolderInUse, Run, describe_run, device_name, find_runs, is_finished, keep_last,
    load_checkpoint, lock_wait, only_writer, read_config, read_run, read_runs, save_checkpoint, versions,
    write_config, write_results,
)
from .origin import MADE_OF, check_finished, check_made_of, checkpoint_made_of, clips_made_of, read_made_of
from .devices import (
    Processes, agree, average_gradients, destroy_processes, first_alone, gather, init_processes, join, launch,
    process_timeout, share_batch_norm, start_alike, total,
)
from .plan import (
    AUDIOSET_CLIPS, STEP_FIELDS, Plan, PlannedRun, RunGroup, check_places, checkpoint_path, count_clips,
    epochs_done, estimate, estimate_run, finished_runs, grid, group_values, papermill_words, plan_runs,
    read_plan, report, run_command, seconds_from_runs, steps_per_epoch, train_parameters,
)
from .comparison import (
    METRIC_KEYS, SELECTION, SPA_FIELDS, Experiment, Resampled, by_seed, by_seed_mean, candidate_table,
    caption, chance_of, check_pair, check_results, check_runs, choose, comparable, compare, comparison_key,
    evaluated, experiments, level_table, ontology_of, over_seeds, paired_runs, paired_table, provenance,
    runs_table, selection_key,
)
from .ledger import REPLICATES, grow_ledger, ledger_change, ledger_row, read_ledger, with_settings
from .trainer import Task, Trainer, finite_step, loader_errors, predict_clips

__all__ = [
    "AUDIOSET", "AUDIOSET_CLIPS", "BY_ENCODER", "FACTS", "MADE_OF", "MARK", "METRIC_KEYS", "NAMES",
    "OPTIMIZERS", "PRETRAINED", "RATE_STEPS", "RECIPES", "REPLICATES", "SAMPLERS", "SCALES", "SCHEDULES",
    "SELECTION", "SPA_FIELDS", "STEP_FIELDS", "AtLeast", "AtMost", "ClipsConfig", "DamagedRun", "Experiment",
    "FolderInUse", "LessThan", "Local", "ModelConfig", "NamePart", "NonNegativeFloat", "NonNegativeInt",
    "OneOf", "Plan", "PlannedRun", "PositiveInt", "Processes", "Rate", "Recipe", "RecipeConfig", "Resampled",
    "Run", "RunConfig", "RunGroup", "Task", "Trainer", "agree", "average_gradients", "by_seed",
    "by_seed_mean", "candidate_table", "caption", "chance_of", "check_finished", "check_made_of",
    "check_pair", "check_places", "check_results", "check_runs", "check_together", "checked_config",
    "checkpoint_made_of", "checkpoint_path", "choose", "class_turn", "clips_made_of", "comparable", "compare",
    "comparison_key", "config_hash", "count_clips", "describe_run", "destroy_processes", "device_name",
    "encoder_of", "epoch_order", "epochs_done", "estimate", "estimate_run", "evaluated", "experiments",
    "find_runs", "finished_runs", "finite_step", "first_alone", "gather", "grid", "group_values",
    "grow_ledger", "halving_factor", "identity", "init_processes", "is_finished", "join", "keep_last",
    "launch", "ledger_change", "ledger_row", "level_table", "load_checkpoint", "loader_errors",
    "local_fields", "lock_wait", "make_config", "make_optimizer", "mixup", "only_writer", "ontology_of",
    "over_seeds", "paired_runs", "paired_table", "papermill_words", "parse_values", "parse_where",
    "plan_runs", "predict_clips", "process_timeout", "provenance", "published_recipe", "rate_factor",
    "read_config", "read_ledger", "read_made_of", "read_plan", "read_run", "read_runs", "released_checkpoint",
    "report", "run_command", "run_name", "run_values", "runs_dir", "runs_table", "save_checkpoint",
    "schedule_factor", "seconds_from_runs", "selection_key", "share_batch_norm", "start_alike",
    "start_values", "steps_per_epoch", "total", "train_parameters", "variant_of", "variant_values",
    "versions", "with_settings", "write_config", "write_results",
]
