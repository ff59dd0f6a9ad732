"""What README, figures/README.md and the notebooks state, against the csv files that it comes from.

A line of STATED is a page, a sentence as it stands there with its numbers as fields, a csv of figures/, and
the row or the computation that fills the fields. A number that changes in a csv or in a sentence fails here.
Whoever writes a new number into README's results writes its line below.
"""
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spa_lib.data import real_corpus_list
from spa_lib.metrics import chance, level_weights
from spa_lib.ontology import Ontology
from spa_lib.results import paper_table
from spa_lib.runs import ledger_change
from spa_lib.semanticac import paper_accuracy

ROOT = Path(__file__).resolve().parents[1]
README, FIGURES = "README.md", "figures/README.md"
TABLE_1 = "nbs/paper/table1_encoders.ipynb"
FIG_3 = "nbs/paper/fig3_omap_by_level.ipynb"
ALPHA = "nbs/paper/alpha.ipynb"
PEOPLE = "nbs/paper/perception_esc.ipynb"
FEW_LABELS, AUDIOSET = "nbs/beyond/few_labels.ipynb", "nbs/paper/audioset.ipynb"
COLLAPSE, BASELINE = "nbs/beyond/collapse.ipynb", "nbs/beyond/baseline.ipynb"
URBAN = "nbs/semanticac/table2_urbansound8k.ipynb"
CORPUS = "nbs/guides/real_corpus.ipynb"
COST = "nbs/guides/cost.ipynb"
CHANGE = "{difference:+.2f} [{low_both:+.2f}, {high_both:+.2f}]"
# mAP and OmAP of baseline_real_clips: a change against plain heads, against dropout alone, at equal weights
OVER_PLAIN = (
    "{m[change_plain]:+.2f} [{m[low_plain]:+.2f}, {m[high_plain]:+.2f}] mAP and "
    "{o[change_plain]:+.2f} [{o[low_plain]:+.2f}, {o[high_plain]:+.2f}] OmAP"
)
OVER_DROPOUT = OVER_PLAIN.replace("_plain", "_regularised")
AT_EQUAL_WEIGHT = (
    "{m[difference]:+.2f} [{m[low]:+.2f}, {m[high]:+.2f}] mAP and "
    "{o[difference]:+.2f} [{o[low]:+.2f}, {o[high]:+.2f}] OmAP"
)
PLAIN = "tagger == 'frozen' and head == 'plain' and arm == '{}' and metric == '{}'"
REGULARISED = PLAIN.replace("plain", "regularised")
WHOLE = REGULARISED.replace("frozen", "whole")
EQUAL = 'question == "{}" and alpha == {} and metric == "{}"'
FEW = "labelled_clips == {} and variant == '{}' and metric == '{}'"
FEW_CHANGE = "{change:+.2f} [{low:+.2f}, {high:+.2f}]"
BY_CLIPS = "labelled_clips == {} and variant == '{}' and metric == '{}' and clips == '{}'"
PART = "part == '{}' and variant == '{}'"
SCORE_CHANGE = {metric: "{M_change:+.2f} [{M_low:+.2f}, {M_high:+.2f}]".replace("M", metric)
                for metric in ("mAP", "OmAP")}
TINY = "experiment.str.contains('tiny') and metric == "


def extremes(column, query):
    """The smallest and the largest value, as fields `low` and `high`."""
    def of(table):
        found = table.query(query)[column]
        return dict(low=found.min(), high=found.max())
    return of


def on_h200(table):
    """The rows of device_h200 by encoder, shares in %, and what the sentences compare."""
    names = table.encoder.str.split(" ").str[0] # "transformers 5.17.0" as "transformers"
    table = table.set_index(names.where(table.encoder != "passt + patchout", "patchout"))
    shares = 100 * table[["train_of_bf16", "front_of_train", "spa"]]
    fields = {n: table.loc[n].to_dict() | shares.loc[n].to_dict() for n in table.index.unique()}
    short = shares.spa[~shares.index.isin(["ast", "passt"])]
    ratio = table.train["ast"] / table.train["transformers"]
    front = shares.front_of_train
    return fields | dict(ratio=ratio, low=short.min(), high=short.max(), first=front.min(), last=front.max())


def rows(**queries):
    """Several rows, each a field: `{mn[difference]}`."""
    return lambda table: {name: one(table, query) for name, query in queries.items()}


def both_metrics(query, *values):
    """The rows of mAP and OmAP as fields `m` and `o`, of a query that ends with the metric."""
    return rows(m=query.format(*values, "mAP"), o=query.format(*values, "OmAP"))


def cells(column, index="arm", query=None, times=1):
    """A column as fields, named by the values of another: `{concat}`."""
    def of(table):
        found = (table.query(query) if query else table).set_index(index)[column]
        assert found.index.is_unique
        return {str(name): times*value for name, value in found.items()}
    return of


def soft_on_real_clips(metric):
    """What soft targets change in a head over a frozen tagger."""
    def of(table):
        finals = table[table.holdout == 0]
        without, soft = (finals[finals.variant == variant] for variant in ("without", "soft-concat"))
        return ledger_change(without, soft, metric)
    return of


def smoothed(clips, variant):
    """What smoothing changes, on average over the seeds."""
    where = f"labelled_clips == {clips} and variant == '{variant}'"
    return lambda table: table.query(where)[["mAP", "OmAP"]].mean().to_dict()


WITHOUT_AND_WITH = rows(a=PART.format("table 1", "without"), b=PART.format("table 1", "concat"))


def purity(column):
    """Share of the ten nearest texts in the same branch, in percent, by description."""
    return cells(column, "method", "measure == 'purity by branch'", 100)


def at_alpha(metric):
    return lambda t: {f"a{a:g}".replace(".", "_"): v for a, v in
                      t[t.metric == metric].set_index("alpha").difference.items()}


def fig_3_parts(table):
    """What the levels 0 to 7, 8 to 14 and 15 to 21 lose on average, by encoder."""
    part = pd.cut(table.level, [-1, 7, 14, 21], labels=["fine", "middle", "coarse"])
    by_encoder = table.groupby([table.experiment.str.split().str[0], part], observed=True)
    means = by_encoder[["difference", "without"]].mean().unstack()
    less = (means.difference.middle - means.difference.fine).abs()
    return dict(top=means.without.coarse.min(), same=less[["psla", "panns", "ast"]].max(),
                passt=less["passt"], htsat=less["htsat"])


def gains(table):
    """Mean gain of OmAP over the five encoders, by description: the paper's Tables 1 and 2."""
    described, without = paper_table(2), paper_table(1).OmAP_without
    return {method: described[method].sub(without).mean() for method in described}


def printed(table):
    """The extremes of the paper's Tables 1 and 3."""
    first, third = paper_table(1), paper_table(3)
    gain = third["with"] - third["without"]
    omap = [*first.OmAP_change, *first.OmAP_printed]
    return dict(omap_low=min(omap), omap_high=max(omap), map_low=first.mAP_change.min(),
                map_high=first.mAP_change.max(), people_low=gain.min(), people_high=gain.max())


def accuracies(table):
    """SemanticAC's own Tables 1, 2 and 3."""
    third = paper_accuracy(3)
    return dict(esc=paper_accuracy(1)["SemanticAC, second row"], urban=paper_accuracy(2)["SemanticAC"],
                baseline=third["baseline"], cscm=third["CSCM"])


@cache
def corpus_counts():
    clips = real_corpus_list()
    sides, sets = clips.split.value_counts(), clips.dataset.value_counts()
    kinds, classes = set(zip(clips.dataset, clips.category)), {m for mids in clips.mids for m in mids}
    return dict(
        esc=sets["esc50"], urban=sets["urbansound8k"], train=sides["train"], evaluate=sides["eval"],
        all=len(clips), categories=len(kinds), classes=len(classes),
    )


def chance_here(draws):
    """What random scores get on the evaluated clips of the real corpus, in percent."""
    clips = real_corpus_list().query("split == 'eval'")
    full = Ontology.audioset()
    ontology = full.subset(sorted({m for mids in real_corpus_list().mids for m in mids}, key=full.index))
    y = np.array([[m in mids for m in ontology.mids] for mids in clips.mids]).astype(int)
    found = chance(y, ontology, draws=draws, seed=0)
    return dict(map=100*found.map, omap=100*found.omap)


def counts(table):
    return corpus_counts()


def chances(table):
    """With 20 random tables, as Table 1 has it, and with five, as `collapse` has it."""
    twenty = cells("chance", "metric", "experiment == 'mn base, alpha=0.03'")(csv("table1_real_clips"))
    five = cells("chance", "metric", ON_FROZEN + " and arm == 'concat'")(csv("collapse_real_clips"))
    return dict(map20=twenty["mAP"], omap20=twenty["OmAP"], map5=five["mAP"], omap5=five["OmAP"])


def cost_ratio(table):
    ontology = Ontology.audioset()
    w = level_weights(ontology.distances, ontology.levels, "official")
    return dict(ratio=w[16].max()/w[0].max())


MN, PAPERS = "experiment == 'mn base, alpha=0.03' and metric == ", None
ON_FROZEN = "ground == 'audioset, mn base frozen'"
FROZEN = ON_FROZEN + " and metric == "
FIXED = "arm == 'concat-centred' and alpha == {} and epochs == {}"
PSLA = "experiment == 'psla tiny, alpha=0.03' and metric == 'mAP'"
RHO = "measure == 'rho' and arm == "
AST, FROZEN_MN = "encoder == 'ast tiny, from scratch'", "encoder == 'mn base, frozen'"
BEHIND = " and arm == 'semanticac-cscm' and against == 'baseline-cscm'"
ALONE = " and arm == 'baseline-cscm'"
DEEP = "change == 'AP' and alpha == "

STATED = [
    # README: the picture
    (README, "{concat:.0f} % share the branch", "fig1_label_tsne_numbers",
     purity("value")),
    (README, "(chance {concat:.0f} %)", "fig1_label_tsne_numbers",
     purity("chance")),
    (README, "a bag of words reaches {concat:.0f} %", "fig1_label_tsne_numbers",
     purity("bag_of_words")),
    (README, "Bare names reach {direct:.0f} %, AudioSet's sentences {desc:.0f} %", "fig1_label_tsne_numbers",
     purity("value")),
    (README, "Chance is mAP {mAP:.2f}, OmAP {OmAP:.2f} here", "table1_demo",
     cells("chance", "metric", "encoder == 'ast'", 0.01)),
    # README: the table of claims
    (README, "| {omap_low:+.1f} to {omap_high:+.1f} | 6", PAPERS, printed),
    (README, "`mn04` {without:.2f} to {with_spa:.2f}: " + CHANGE, "table1_real_clips", MN + "'OmAP'"),
    (README, "from scratch {low:.1f} to {high:.1f}", "table1_real_clips",
     extremes("difference", TINY + "'OmAP'")),
    (README, "| {map_low:.1f} to {map_high:.1f} | 2", PAPERS, printed),
    (README, "`mn04` {without:.2f} to {with_spa:.2f}: " + CHANGE, "table1_real_clips", MN + "'mAP'"),
    (README, "tiny {low:.1f} to {high:.1f} | same sign", "table1_real_clips",
     extremes("difference", TINY + "'mAP'")),
    (README, "only PSLA's " + CHANGE + " is beyond its interval", "table1_real_clips", PSLA),
    (README, "0.1: {a0_1:.1f}, 0.3: {a0_3:.1f}, 1: {a1:.1f} points of mAP",
     "alpha_real_clips", at_alpha("mAP")),
    (README, "OmAP {a0_3:.1f} at 0.3, {a1:.1f} at 1", "alpha_real_clips", at_alpha("OmAP")),
    (README, "coarse less fine between {low:+.2f} and {high:+.2f}", "fig3_real_clips_contrast",
     extremes("change", "part == 'coarse less fine'")),
    (README, "{concat:+.1f} and {prompt:.1f} OmAP on average", PAPERS, gains),
    (README, "direct {direct:+.2f}, prompt {prompt:+.2f}, desc {desc:+.2f}, concat {concat:+.2f}, each "
     "within",
     "table2_real_clips", cells("difference", query="minus == 'without'")),
    (README, '"consistency" +{people_low:.0f} to +{people_high:.0f} points', PAPERS, printed),
    (README, "134 listeners {without:.3f} to {with_spa:.3f}: {difference:+.3f} [{low_people:+.3f}, "
     "{high_people:+.3f}]", "perception_esc", RHO + "'concat'"),
    (README, "untouched checkpoint {value:.3f}", "perception_esc_levels",
     "measure == 'rho' and matrix == 'untouched' and model == 'mn base, alpha=0.03'"),
    (README, "| {esc:.2f} %; on one fold {baseline:.1f} to {cscm:.1f} % |", PAPERS, accuracies),
    (README, "tiny AST {baseline:.1f} to {semanticac-cscm:.1f} %", "semanticac_table1_esc50",
     cells("accuracy", query=AST)),
    (README, "by text behind CSCM {difference:+.1f} [{low:+.1f}, {high:+.1f}]",
     "semanticac_table1_esc50_differences", AST + BEHIND),
    (README, "frozen `mn04` {baseline:.1f} to {semanticac-cscm:.1f} % |", "semanticac_table1_esc50",
     cells("accuracy", query=FROZEN_MN)),
    (README, "costs {cost:.1f} [{low:.1f}, {high:.1f}]", "semanticac_table1_esc50_differences",
     lambda t: (r := one(t, FROZEN_MN + BEHIND)) | dict(cost=-r["difference"])),
    (README, "| {urban:.2f} % | | two folds", PAPERS, accuracies),
    (README, "CSCM alone {difference:.1f} [{low:.1f}, {high:.1f}]",
     "semanticac_table2_urbansound8k_differences", FROZEN_MN + ALONE),
    (README, "text behind it {difference:+.1f} [{low:+.1f}, {high:+.1f}]",
     "semanticac_table2_urbansound8k_differences", FROZEN_MN + BEHIND),
    (README, "SPA {spa-concat:.0f} %, SemanticAC {semanticac-cscm-minilm:.0f} % with a pretrained sentence "
     "encoder, "
     "{semanticac-cscm:.0f} % with its own tower", "semanticac_bridge", cells("unseen_accuracy")),
    # README: the line below the table, and the recommendation
    (README, "{esc} clips of ESC-50 and {urban} of UrbanSound8K, their {categories} categories",
     PAPERS, counts),
    (README, "({classes} with ancestors); no clip is AudioSet's. {train} clips to train, {evaluate} to "
     "evaluate",
     PAPERS, counts),
    (README, "(untouched: mAP {mAP:.1f}, OmAP {OmAP:.1f})", "table1_real_clips",
     cells("untouched", "metric", "experiment == 'mn base, alpha=0.03'")),
    (README, "Chance: mAP {mAP:.1f}, OmAP {OmAP:.1f}", "table1_real_clips",
     cells("chance", "metric", "experiment == 'mn base, alpha=0.03'")),
    # figures/README.md
    (FIGURES, "{esc} clips of ESC-50 and {urban} of UrbanSound8K ({train} to train, {evaluate} to "
     "evaluate). Their "
     "{categories} categories are mapped to AudioSet classes, {classes} with ancestors", PAPERS, counts),
    (FIGURES, "Chance is mAP {map20:.1f}, OmAP {omap20:.1f}, the mean of 20 random score tables ({map5:.1f} "
     "and "
     "{omap5:.1f} in", PAPERS, chances),
    (FIGURES, "changes mAP by {low:.1f} to {high:.1f} points", "table1_real_clips",
     extremes("difference", "metric == 'mAP'")),
    (FIGURES, "and OmAP by {low:.1f} to {high:+.2f};", "table1_real_clips",
     extremes("difference", "metric == 'OmAP'")),
    (FIGURES, "HTS-AT's {difference:.1f} is", "table1_real_clips", "encoder == 'htsat' and metric == 'mAP'"),
    (FIGURES, "is {difference:.1f} in collapse_real_clips, at the alpha 0.3", "collapse_real_clips",
     "ground == 'audioset, htsat tiny' and arm == 'concat' and metric == 'mAP'"),
    (FIGURES, "PaSST's OmAP {difference:+.1f}", "table1_demo", "encoder == 'passt' and metric == 'OmAP'"),
    (FIGURES, "(rank correlation {a[rank_correlation]:.2f} and {b[rank_correlation]:.2f} for AP",
     "alpha_real_clips_depth", rows(a=DEEP + "0.3", b=DEEP + "1.0")),
    (FIGURES, "{one} of the {all} cells with SPA have one seed", "table2_demo_seeds",
     lambda t: dict(one=(t.iloc[:, 2:] == 1).sum().sum(), all=t.iloc[:, 2:].size)),
    (FIGURES, "bare names {direct:.1f} %, AudioSet's sentences", "fig1_label_tsne_numbers",
     purity("value")),
    (FIGURES, "gain {m[difference]:.1f} [{m[low_both]:.1f}, {m[high_both]:.1f}] points of mAP and "
     "{o[difference]:.1f} [{o[low_both]:.1f}, {o[high_both]:.1f}] of OmAP", "collapse_real_clips",
     rows(m=FROZEN + "'mAP' and arm == 'concat-centred'", o=FROZEN + "'OmAP' and arm == 'concat-centred'")),
    (FIGURES, "frozen `mn04`: {baseline:.1f} % without text, {semanticac-plain:.1f} % with text, "
     "{semanticac-cscm:.1f} %", "semanticac_table1_esc50", cells("accuracy", query=FROZEN_MN)),
    (FIGURES, "tiny AST: {baseline:.1f} %, {semanticac-plain:.1f} %, and {semanticac-cscm:.1f} % with both",
     "semanticac_table1_esc50", cells("accuracy", query=AST)),
    (FIGURES, "CSCM alone loses {cost:.1f} points [{low:.1f}, {high:.1f}]",
     "semanticac_table2_urbansound8k_differences",
     lambda t: (r := one(t, FROZEN_MN + ALONE)) | dict(cost=-r["difference"])),
    (FIGURES, "only the LSTM's loss ({difference:.1f} points)", "semanticac_table3_similarity",
     AST + " and arm == 'semanticac-lstm'"),
    (FIGURES, "the three prompts give {low:.1f} to {high:.1f} %", "semanticac_table4_prompts",
     extremes("accuracy", "seeds > 0")),
    # notebooks
    (TABLE_1, "{map20:.2f} and {omap20:.2f} % on the evaluated clips", PAPERS, chances),
    (TABLE_1, "drew five, and has {map5:.2f} and {omap5:.2f}.", PAPERS, chances),
    (TABLE_1, "at {difference:.2f} points of mAP [{low_both:.2f}, {high_both:+.2f}], and there",
     "table1_real_clips",
     "encoder == 'htsat' and metric == 'mAP'"),
    (TABLE_1, "and there at {difference:.2f} [{low_both:.2f}, {high_both:.2f}]", "collapse_real_clips",
     "ground == 'audioset, htsat tiny' and arm == 'concat' and metric == 'mAP'"),
    (FIG_3, "the models reach {top:.1f} to 100 % at the levels 15 to 21", "fig3_real_clips", fig_3_parts),
    (FIG_3, "PaSST and HTS-AT lose {passt:.1f} and {htsat:.1f} points less", "fig3_real_clips", fig_3_parts),
    (ALPHA, "rank correlation {rank_correlation:.2f} [{rank_correlation_low:.2f}, "
     "{rank_correlation_high:.2f}] at "
     "alpha 0.3", "alpha_real_clips_depth", DEEP + "0.3"),
    (ALPHA, "and {rank_correlation:.2f} [{rank_correlation_low:.2f}, {rank_correlation_high:.2f}] at 1.",
     "alpha_real_clips_depth", DEEP + "1.0"),
    (ALPHA, "{at_equal_positives:.2f} [{at_equal_positives_low:.2f}, {at_equal_positives_high:.2f}]. From",
     "alpha_real_clips_depth", DEEP + "0.3"),
    (PEOPLE, "random vectors alone bring `mn04` nearer, by {difference:+.4f}",
     "perception_esc", RHO + "'random'"),
    (PEOPLE, "texts by {difference:+.4f} [{low_people:+.4f}, {high_people:+.4f}] more",
     "perception_esc_meaning",
     RHO + "'concat'"),
    (PEOPLE, "end at the same {random:.4f}", "perception_esc_esc10", cells("with_spa")),
    (PEOPLE, "end at the same {concat:.4f}", "perception_esc_esc10", cells("with_spa")),
    (COLLAPSE, "([{a[mAP low_both]:.2f}, {a[mAP high_both]:+.2f}] and [{b[mAP low_both]:.2f}, "
     "{b[mAP high_both]:+.2f}])", "collapse_real_clips_fixed",
     rows(a=FIXED.format(0.3, 60), b=FIXED.format(0.3, 120))),
    (COLLAPSE, "Their difference in OmAP there, {difference:+.2f}", "collapse_real_clips_meaning",
     FROZEN + "'OmAP'"),
    (FIGURES, "costs mAP {near[mAP]:.0f} and {far[mAP]:.0f} % of the way to random scores, "
     "OmAP {near[OmAP]:.0f} and {far[OmAP]:.0f} %", "neighbours_share",
     rows(near="system == 'relatives'", far="system == 'strangers'")),
    *[(page, FEW_CHANGE, "few_labels", FEW.format(clips, variant, "OmAP"))
      for page in (README, FIGURES, FEW_LABELS) for clips in (250, 1100, 4400, 22125)
      for variant in ("soft-concat", "soft-concat-permuted")],
    (README, "250 clips " + FEW_CHANGE, "few_labels", FEW.format(250, "soft-concat", "OmAP")),
    *[(FEW_LABELS, FEW_CHANGE, "few_labels", FEW.format(clips, variant, metric))
      for clips in (250, 1100, 4400, 22125) for variant in ("concat", "soft-concat")
      for metric in ("mAP", "OmAP")],
    *[(page, FEW_CHANGE, "few_labels_meaning",
       f"labelled_clips == {clips} and metric == 'OmAP' and less == 'the graph'")
      for page in (README, FEW_LABELS) for clips in (250, 1100, 4400, 22125)],
    *[(FEW_LABELS, FEW_CHANGE, "few_labels_obce",
       f"labelled_clips == {clips} and metric == '{metric}' and obce_share == 1")
      for clips in (250, 1100, 4400, 22125) for metric in ("mAP", "OmAP")],
    *[(FEW_LABELS, FEW_CHANGE, "few_labels_meaning",
       f"labelled_clips == {clips} and metric == '{metric}' and less == '{less}'")
      for less in ("OBCE alone", "permuted, its own k and width")
      for clips in (250, 1100, 4400, 22125) for metric in ("mAP", "OmAP")],
    (FEW_LABELS, "the raised scores cost mAP, " + FEW_CHANGE, "few_labels",
     FEW.format(4400, "concat-ranked", "mAP")),
    *[(FEW_LABELS, FEW_CHANGE, "few_labels", FEW.format(clips, variant, "OmAP"))
      for variant in ("soft-direct", "concat-second", "concat-ranked", "permuted-second", "permuted-ranked")
      for clips in (250, 1100, 4400, 22125)],
    *[(FEW_LABELS, FEW_CHANGE, "few_labels", FEW.format(clips, "soft-desc", metric))
      for clips in (250, 1100, 4400, 22125) for metric in ("mAP", "OmAP")],
    *[(FEW_LABELS, FEW_CHANGE, "few_labels_meaning",
       f'labelled_clips == {clips} and metric == "{metric}" and less == "{less}, from AudioSet\'s sentences"')
      for clips in (250, 1100, 4400, 22125)
      for metric, less in (("OmAP", "the graph"), ("mAP", "Concat"))],
    *[(FEW_LABELS, f"{FEW_CHANGE} of {metric}", "few_labels_meaning",
       f"labelled_clips == {clips} and metric == '{metric}' and less == 'the graph, from bare names'")
      for clips, metric in ((1100, "OmAP"), (1100, "mAP"), (4400, "mAP"))],
    (README, "OmAP " + FEW_CHANGE + ", mAP -", "soft_targets_real_clips_runs", soft_on_real_clips("OmAP")),
    (README, ", mAP " + FEW_CHANGE + " |", "soft_targets_real_clips_runs", soft_on_real_clips("mAP")),
    *[(FEW_LABELS, FEW_CHANGE, "few_labels", FEW.format(clips, "soft-ontology", "OmAP"))
      for clips in (250, 1100, 4400, 22125)],
    *[(FEW_LABELS, "{OmAP:+.2f} of OmAP and {mAP:+.2f} of mAP", "few_labels_smoothing",
       smoothed(clips, variant)) for clips in (250, 1100, 4400) for variant in ("without", "soft-concat")],
    (FEW_LABELS, "{OmAP:+.2f} of OmAP and {mAP:+.2f} of mAP at all", "few_labels_smoothing",
     smoothed(22125, "without")),
    *[(FEW_LABELS, FEW_CHANGE, "few_labels_by_clips", BY_CLIPS.format(clips, variant, metric, group))
      for clips, variant, metric, group in (
          (250, "soft-concat", "OmAP", "0"), (250, "soft-concat", "mAP", "0"),
          (250, "soft-concat", "OmAP", "1"), (1100, "soft-concat", "OmAP", "2, 3"),
          (1100, "soft-concat", "OmAP", "more"), (250, "concat", "OmAP", "0"))],
    # AudioSet itself
    (README, "0.001: {w0_001:+.2f}, 0.003: {w0_003:+.2f}, 0.01: {w0_01:+.2f}, 0.03: {w0_03:+.2f}, "
     "0.1: {w0_1:+.2f} points of mAP", "audioset_features_alpha", lambda t: {
         f"w{a:g}".replace(".", "_"): v for a, v in
         t[t.variant == "concat"].set_index("alpha").mAP_change.items()}),
    *[(AUDIOSET, SCORE_CHANGE[metric], "audioset_features_alpha", "variant == 'concat' and alpha == 0.001")
      for metric in ("mAP", "OmAP")],
    *[(AUDIOSET, sentence, "audioset_features_alpha", f"variant == '{variant}' and alpha == 0.1")
      for variant, sentence in (
          ("concat", "at 0.1 texts change mAP by {mAP_change:+.2f} and OmAP by {OmAP_change:+.2f},"),
          ("permuted", "permuted texts by {mAP_change:+.2f} and {OmAP_change:+.2f}"),
          ("random", "random vectors by {mAP_change:+.2f} and {OmAP_change:+.2f}."))],
    (AUDIOSET, "take the tagger from {mAP:.2f} and {OmAP:.2f} to", "audioset_features_runs",
     "tag == 'tagger'"),
    (AUDIOSET, "to {mAP:.2f} and {OmAP:.2f}, and nothing here", "audioset_features",
     PART.format("fine-tuning", "without")),
    (AUDIOSET, SCORE_CHANGE["mAP"], "audioset_features", PART.format("table 2", "prompt")),
    (README, "between {low:+.2f} and {high:+.2f} at every level", "audioset_features_levels",
     extremes("change", "variant == 'SPA, texts'")),
    *[(AUDIOSET, FEW_CHANGE, "audioset_features_groups",
       f"group == 'under 60' and variant == '{variant}' and metric == 'mAP'")
      for variant in ("SPA, texts", "OBCE alone")],
    (AUDIOSET, "desc change OmAP by {direct:+.2f}, {prompt:+.2f} and {desc:+.2f}, ", "audioset_features",
     cells("OmAP_change", "variant", "part == 'table 2'")),
    (AUDIOSET, "random vectors by {OmAP_change:+.2f}", "audioset_features",
     PART.format("controls", "SPA, random vectors")),
    (AUDIOSET, "permuted texts by {OmAP_change:+.2f}", "audioset_features",
     PART.format("controls", "SPA, permuted texts")),
    (AUDIOSET, "the graph by {OmAP_change:+.2f}", "audioset_features",
     PART.format("controls", "SPA, the graph")),
    (AUDIOSET, "detached texts by {SPA__centred:+.2f}, {SPA__whitened:+.2f} and {SPA__detached:+.2f}.",
     "audioset_features", lambda t: {name.replace(", ", "__"): change for name, change in
                                     t[t.part == "controls"].set_index("variant").OmAP_change.items()}),
    (AUDIOSET, "costs much: mAP {mAP_change:+.2f}, OmAP {OmAP_change:+.2f}.", "audioset_features",
     PART.format("controls", "SPA, tied classifier")),
    *[(AUDIOSET, SCORE_CHANGE[metric], "audioset_features", PART.format("fine-tuning", variant))
      for variant in ("SPA, texts", "soft targets, texts") for metric in ("mAP", "OmAP")],
    *[(AUDIOSET, SCORE_CHANGE[metric] + f" of {metric}", "audioset_features",
       PART.format("soft targets by OBCE", share))
      for share, metric in (("OBCE 0", "OmAP"), ("OBCE 0", "mAP"), ("OBCE 1", "OmAP"), ("OBCE 1", "mAP"))],
    *[(page, SCORE_CHANGE[metric], "audioset_features", PART.format(part, variant))
      for page in (README, FIGURES, AUDIOSET) for metric in ("mAP", "OmAP")
      for part, variant in (("table 1", "concat"), ("OBCE", "OBCE 1"))],
    *[(page, SCORE_CHANGE[metric], "audioset_features", PART.format("controls", "soft targets, texts"))
      for page in (FIGURES, AUDIOSET) for metric in ("mAP", "OmAP")],
    *[(AUDIOSET, SCORE_CHANGE[metric], "audioset_features", PART.format("OBCE", "OBCE 0"))
      for metric in ("mAP", "OmAP")],
    (AUDIOSET, SCORE_CHANGE["OmAP"], "audioset_features", PART.format("controls", "soft targets, permuted")),
    (AUDIOSET, SCORE_CHANGE["OmAP"], "audioset_features", PART.format("table 2", "meaning")),
    (AUDIOSET, "mAP {mAP:.2f} and OmAP {OmAP:.2f}, with its parts", "audioset_features",
     PART.format("table 1", "without")),
    (README, "{a[mAP]:.2f} to {b[mAP]:.2f}: ", "audioset_features", WITHOUT_AND_WITH),
    (README, "{a[OmAP]:.2f} to {b[OmAP]:.2f}: ", "audioset_features", WITHOUT_AND_WITH),
    (README, "direct {direct:+.2f}, prompt {prompt:+.2f}, desc {desc:+.2f}, concat {concat:+.2f} |",
     "audioset_features", cells("OmAP_change", "variant", "part == 'table 2'")),
    (BASELINE, OVER_PLAIN, "baseline_real_clips",
     both_metrics(REGULARISED, 'without')),
    (BASELINE, OVER_PLAIN, "baseline_real_clips",
     both_metrics(PLAIN, 'concat-centred')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat-centred')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'random-centred')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'ontology-centred')),
    (BASELINE, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "meaning, the paper's branch", 0.3)),
    (BASELINE, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "meaning, the paper's branch", 0.1)),
    (BASELINE, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "meaning, centred", 0.1)),
    (BASELINE, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "words, centred", 0.1)),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat-tied')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(WHOLE, 'concat')),
    (BASELINE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(WHOLE, 'concat-centred')),
    (BASELINE, "mAP {mAP:.1f} to {smoothed_mAP:.1f}, OmAP {OmAP:.1f} to {smoothed_OmAP:.1f}",
     "baseline_real_clips_smoothing",
     "`scores of` == 'untouched'"),
    (COLLAPSE, OVER_PLAIN, "baseline_real_clips",
     both_metrics(REGULARISED, 'without')),
    (COLLAPSE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat-centred')),
    (COLLAPSE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat')),
    (COLLAPSE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(WHOLE, 'concat')),
    (COLLAPSE, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(WHOLE, 'concat-centred')),
    (COLLAPSE, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "meaning, the paper's branch", 0.3)),
    (README, OVER_PLAIN, "baseline_real_clips",
     both_metrics(REGULARISED, 'without')),
    (README, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat')),
    (README, AT_EQUAL_WEIGHT, "baseline_real_clips_equal_alpha",
     both_metrics(EQUAL, "meaning, the paper's branch", 0.3)),
    (README, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat-centred')),
    (README, "mAP {mAP:.1f} to {smoothed_mAP:.1f}, OmAP {OmAP:.1f} to {smoothed_OmAP:.1f}",
     "baseline_real_clips_smoothing",
     "`scores of` == 'untouched'"),
    (FIGURES, OVER_PLAIN, "baseline_real_clips",
     both_metrics(REGULARISED, 'without')),
    (FIGURES, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat')),
    (FIGURES, OVER_DROPOUT, "baseline_real_clips",
     both_metrics(REGULARISED, 'concat-centred')),
    (URBAN, "CSCM alone costs {cost:.2f} points [{low:.2f}, {high:.2f}]",
     "semanticac_table2_urbansound8k_differences",
     lambda t: (r := one(t, FROZEN_MN + ALONE)) | dict(cost=-r["difference"])),
    (URBAN, "gains {difference:.2f} [{low:+.2f}, {high:+.2f}]", "semanticac_table2_urbansound8k_differences",
     FROZEN_MN + BEHIND),
    (CORPUS, "the untouched `mn04` has a mAP of {mAP:.1f} % here", "table1_real_clips",
     cells("untouched", "metric", "experiment == 'mn base, alpha=0.03'")),
    (CORPUS, "{esc} clips of ESC-50 and {urban} of UrbanSound8K. Their {categories} categories are mapped "
     "to AudioSet "
     "classes, {classes} with", PAPERS, counts),
    (COST, "On the H200, AST reaches {ast[train_of_bf16]:.1f} % and PaSST {passt[train_of_bf16]:.1f} %.",
     "device_h200", on_h200),
    (COST, "The front end takes {first:.1f} to {last:.1f} % of a step. SPA takes {ast[spa]:.2f} % for AST",
     "device_h200", on_h200),
    (COST, "it is {low:.1f} to {high:.1f} %, beyond the target", "device_h200", on_h200),
    (COST, "trains on {transformers[train]:.1f} clips a second: AST here trains {ratio:.1f} times as fast",
     "device_h200", on_h200),
    (COST, "takes {OmAP[omap_ms]:.1f} ms (target 30)", "device_h200", on_h200),
    ("nbs/metrics/device.ipynb",
     "takes {OmAP[omap_ms]:.1f} ms for 20,371 clips and 22 levels, where numpy on its host takes "
     "{OmAP[omap_numpy_ms]:.0f} ms", "device_h200", on_h200),
    ("nbs/guides/audioset_full.ipynb",
     "trains AST on {ast[copied]:.0f} a second and PANNs on {panns[copied]:,.0f}", "device_h200", on_h200),
    ("nbs/03c_metrics.ipynb", "each costs {ratio:.1f} times as much as at level 0", PAPERS, cost_ratio),
]


@cache
def text_of(page):
    text = (ROOT / page).read_text()
    if page.endswith(".ipynb"):
        cells = [c for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]
        text = "\n".join("".join(c["source"]) for c in cells)
    return text


@cache
def csv(name):
    return pd.read_csv(ROOT / "figures" / f"{name}.csv")


def one(table, query):
    """The only row that a query finds, as a dict."""
    found = table.query(query)
    assert len(found) == 1, f"{query} finds {len(found)} rows"
    return found.iloc[0].to_dict()


def filled(sentence, name, cell):
    """A sentence with the numbers that the csv holds today."""
    table = None if name is None else csv(name)
    fields = one(table, cell) if isinstance(cell, str) else cell(table)
    names = {re.match(r"[^:\[]+", f).group() for f in re.findall(r"\{([^}]*)\}", sentence)}
    for field in names: # str.format takes no hyphen in a name
        sentence = re.sub(r"\{" + re.escape(field) + r"(?=[:}\[])", "{" + field.replace("-", "_"), sentence)
    return sentence.format(**{key.replace("-", "_"): value for key, value in fields.items()})


@pytest.mark.parametrize("page, sentence, name, cell", STATED, ids=[f"{n}" for n in range(len(STATED))])
def test_stated_numbers_are_those_of_the_csv(page, sentence, name, cell):
    wanted = filled(sentence, name, cell)
    assert wanted in text_of(page), f"{page} should say: {wanted!r} (figures/{name}.csv)"


def test_claims_without_a_number():
    """Sentences that say which interval holds zero, or which rows are equal."""
    features = csv("audioset_features")
    aligned = features[features.variant.isin([
        "direct", "prompt", "desc", "concat", "SPA, random vectors", "SPA, permuted texts", "SPA, the graph",
        "SPA, centred", "SPA, whitened", "SPA, detached"])]
    assert ((aligned.OmAP_low < 0) & (aligned.OmAP_high > 0)).all() # "No interval of these leaves zero out"
    assert (features.seeds == 5).all() # "five seeds of everything"
    by_clips = csv("few_labels_by_clips").query("labelled_clips == 250 and variant == 'soft-concat'")
    by_clips = by_clips[by_clips.metric == "OmAP"].set_index("clips")
    share = (by_clips.classes*by_clips.change/(by_clips.classes*by_clips.change).sum())["0"]
    for page in (FIGURES, FEW_LABELS):
        for words in (f"{100*share:.0f} % of ", f"{by_clips.classes['0']:.0f} classes"):
            assert words in text_of(page)
    groups = csv("audioset_features_groups").query("by == 'training clips' and metric == 'mAP'")
    others = groups.query("variant == 'SPA, texts' and group != 'under 60'")
    assert ((others.low < 0) & (others.high > 0)).all() # "none beyond its interval"
    assert (groups.query("variant == 'OBCE alone'").high < 0).all() # "every group loses"
    levels = csv("audioset_features_levels").query("variant == 'SPA, texts' and level < 21")
    assert ((levels.low < 0) & (levels.high > 0)).all() # "over seeds, none beyond its interval"
    first = csv("table1_real_clips")
    beyond = first[(first.low_both > 0) | (first.high_both < 0)]
    assert list(zip(beyond.encoder, beyond.metric)) == [("psla", "mAP")] # "only PSLA's ..."
    alpha = csv("alpha_real_clips").query("metric == 'mAP'")
    assert (alpha.difference < 0).all() # "lower at all six values tried"
    assert alpha[alpha.high_both < 0].alpha.tolist() == [1.0] # "beyond seeds and recordings only at 1"
    depth = csv("alpha_real_clips_depth").query("change == 'AP'")
    assert depth[depth.rank_correlation_high < 0].alpha.tolist() == [0.3, 1.0] # "only at alpha 0.3 and 1"
    assert depth[depth.at_equal_positives_high < 0].alpha.tolist() == [0.3]
    coarse = csv("fig3_real_clips_contrast").query("part == 'coarse less fine'")
    assert ((coarse.low < 0) & (coarse.high > 0)).all() # "every interval over seeds includes zero"
    described = csv("table2_real_clips").query("minus == 'without'")
    assert described[["low_both", "high_both"]].abs().max().max() < 0.35 # "each within 0.35"
    assert fig_3_parts(csv("fig3_real_clips"))["same"] < 0.2 # "to within 0.2 points"
    urban = csv("semanticac_table2_urbansound8k")
    with_text = urban[urban.arm.str.startswith("semanticac")]
    assert ((with_text.difference_low < 0) & (with_text.difference_high > 0)).all() # "none beats ..."
    fixed = csv("collapse_real_clips_fixed").query("arm == 'concat-centred'")
    low = fixed[fixed.alpha == 0.1][["mAP low_both", "OmAP low_both"]]
    assert len(low) == 4 and (low > 0).all().all() # "with alpha 0.1 every interval lies above 0"
    weights = csv("collapse_real_clips").query("ground == 'audioset, mn base frozen' and metric == 'OmAP'")
    weights = weights.set_index("arm").alpha.astype(str)
    assert (weights["concat-centred"], weights["random-centred"]) == ("0.3", "0.03")
    meant = csv("collapse_real_clips_meaning").query("metric == 'OmAP'")
    assert meant.difference.round(2).tolist()[1:] == [0.0, 0.0] # "in the two other settings it is 0.00"
    choice = csv("collapse_real_clips_choice").query("arm == 'concat' and source == 'audioset'")
    chosen = choice.set_index("encoder").alpha
    assert chosen["htsat tiny"] == 0.3 and (chosen.drop("htsat tiny") == 0.03).all() # runs/config
    rho = csv("perception_esc").query("measure == 'rho'").set_index("arm").difference
    assert 0.4 < rho["random"]/rho["concat"] < 0.6 # "random vectors give half of it"
    esc10 = csv("perception_esc_esc10").set_index("arm").with_spa.round(4)
    assert esc10["random"] == esc10["concat"] # "and all of it on ESC-10's own listening test"
    both = corpus_counts()
    assert both["esc"] + both["urban"] == both["train"] + both["evaluate"] == both["all"] == 1493


def test_chance_of_other_random_tables_is_near_the_stated_one():
    found = chance_here(20)
    assert "The mean of 200 is 3.7 and 49.45" in text_of(TABLE_1)
    assert found["map"] == pytest.approx(3.7, abs=0.12) and found["omap"] == pytest.approx(49.45, abs=0.12)


NO_RESULT = r"""(?x) # numbers that are names, settings or facts of the papers
    mn04 | ESC-\d+ | UrbanSound8K | SemanticAC | Tables?\ \d | Fig\.\ \d | 4\.2\.1 | 95\ % | 134 | \[\w+\]
    | alpha\ 0\.03 | \ 0\.1:\ | \ 0\.3:\ | \ 1:\ | at\ 0\.3(\ and\ 1)? | at\ 1\b
    | \b(250|1,100|4,400|22,125|20,371)\b | mAP\ 0\.5,\ OmAP\ 31 | \ 0\.0\d+:\ | share\ 1\b | `-p[^`]*`
    | chance\ 10\ % | within\ 0\.35 | 527 | near\ 100\ %
"""


def test_every_number_of_the_results_is_stated_here():
    """Of README's picture, results and recommendation; NO_RESULT lists what is no number of a csv."""
    readme = re.sub(r"<!--.*?-->", "", text_of(README))
    picture = re.search(r"^\*AudioSet's 527 labels.*$", readme, re.M).group()
    results = readme[readme.index("## What is reproduced"):readme.index("## What agrees")]
    stated = [filled(sentence, name, cell) for page, sentence, name, cell in STATED if page == README]
    for line in [picture, *results.splitlines()]:
        line = re.sub(r"^\d\. ", "", re.sub(r"\]\([^)]*\)", "]", line)) # without links
        covered = [m.span() for m in re.finditer(NO_RESULT, line)]
        for sentence in (re.sub(r"\]\([^)]*\)", "]", s) for s in stated):
            covered += [m.span() for m in re.finditer(re.escape(sentence), line)]
        for number in re.finditer(r"\d+(?:\.\d+)*", line):
            is_covered = any(a <= number.start() and number.end() <= b for a, b in covered)
            assert is_covered, f"no line of STATED covers {number.group()} of {line!r}"
