"""The second paper's part of a plan: its runs in runs/semanticac/, its tables and figures.

Included by the Snakefile.
"""
from spa_lib.data import labelled_clips
from spa_lib.semanticac import NOTEBOOKS, semantic_runs

# Notebook in nbs/semanticac -> the scales of the runs that it draws.
SEMANTIC = PLAN.get("semanticac", {})
if isinstance(SEMANTIC, str):
    SEMANTIC = dict.fromkeys(NOTEBOOKS, SEMANTIC)
SEMANTIC_ROOTS = {name: config.get(name) for name in ("esc50", "urbansound8k")}
SEMANTIC_RUNS = semantic_runs(SEMANTIC, SEMANTIC_ROOTS, config.get("checkpoints"))


def semantic_names(notebook):
    "Names of the runs that a notebook draws."
    return [name for name, planned in SEMANTIC_RUNS.items() if notebook in planned.groups]


# Once, before the first training on these clips: they are made, or downloaded where the scale says so, or
# refused with an error that names what is missing.
rule semanticac_clips:
    output:
        touch(KEPT + "/semanticac/{source}.clips"),
    message:
        "clips of {wildcards.source}"
    run:
        c = next(run.config for run in SEMANTIC_RUNS.values() if run.config.source == wildcards.source)
        labelled_clips(c.source, c.root, c.per_class, c.clip_seconds, c.download)


rule semanticac_train:
    input:
        lambda w: ancient(f"{KEPT}/semanticac/{SEMANTIC_RUNS[w.run].config.source}.clips"),
    output:
        update("runs/semanticac/{run}/metrics.json"),
    log:
        notebook=KEPT + "/semanticac/train/{run}.ipynb",
    params:
        command=lambda w: papermill(
            "nbs/semanticac/train.ipynb",
            f"{KEPT}/semanticac/train/{w.run}.ipynb",
            SEMANTIC_RUNS[w.run].parameters,
        ),
    wildcard_constraints:
        run="[^/]+",
    message:
        "train {wildcards.run}"
    threads: config["threads"]
    shell:
        "OMP_NUM_THREADS={threads} {params.command}"


for name, scales in SEMANTIC.items():
    figure = figure_of(f"semanticac_{name}")

    rule:
        name:
            f"semanticac_{name}"
        input:
            f"nbs/semanticac/{name}.ipynb",
            expand("runs/semanticac/{run}/metrics.json", run=semantic_names(name)),
        output:
            touch(f"{KEPT}/semanticac_{name}.done"),
            update(f"figures/{figure}.csv"),
        log:
            notebook=f"{KEPT}/semanticac_{name}.ipynb",
        params:
            command=papermill(
                f"nbs/semanticac/{name}.ipynb",
                f"{KEPT}/semanticac_{name}.ipynb",
                {"scale": scales, "figure": figure},
            ),
        message:
            f"draw {figure}"
        shell:
            "OMP_NUM_THREADS={threads} {params.command}"
