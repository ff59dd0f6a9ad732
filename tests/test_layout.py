"""The floors of the house: what may import what. Imports go down only; in a folder, from left to right."""
import ast
import importlib
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "spa_lib"
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))

# From the lowest up. Nothing imports another module of its own floor. The command of `train` may import `cli`
# when it is called.
FLOORS = [
    {"utils", "losses"},
    {"ontology", "encoders", "results", "papermill"},
    {"text", "data", "metrics", "model"},
    {"beyond"},
    {"runs", "tagger"}, # `tagger` holds the files of a model, which `train` writes
    {"train", "semanticac", "perception", "export"},
    {"cli"},
]
# Inside a folder: a module imports only what stands in an earlier set.
INSIDE = {
    "data": [
        {"errors", "containers"}, {"audio"}, {"report"}, {"clips", "sounds"},
        {"sides"}, {"dataset", "synth", "shards"},
        {"sources", "features"},
        {"real_corpus"},
    ],
    "encoders": [
        {"checkpoints", "frontend", "augment", "blocks"},
        {"base"},
        {"psla", "panns", "ast", "passt", "htsat", "mn", "vggish", "hf"},
    ],
    "metrics": [{"ap"}, {"ontology_ap"}, {"intervals", "embeddings", "device", "scorer", "hierarchical"},
                {"torchmetric"}],
    "runs": [{"recipe"}, {"config"}, {"folder"}, {"devices", "origin"}, {"trainer", "plan"},
             {"comparison"}, {"ledger"}],
    "perception": [{"design", "confusion"}, {"answers"}, {"panel", "scores"}],
    "semanticac": [{"losses", "text_tower"}, {"model"}, {"config"}, {"studies", "train"}, {"tables"}],
    "tagger": [{"model_file", "windows", "words", "formats"}, {"hub"}, {"tagging"}, {"onnx_file"}],
    "beyond": [{"smoothing", "soft_targets", "zero_shot"}, {"branches"}],
}
NAMES_IN_SIGHT = {
    "ontology", "data", "encoders", "text", "model", "losses", "metrics", "train", "results", "tagger",
    "export", "cli", "papermill", "utils", "runs", "beyond", "perception", "semanticac", "assets",
}
PENDING: set[tuple[str, str]] = set() # imports that do not fit: (importer, imported). To stay empty


def imports_of(path):
    """(imported module below spa_lib, line, whether it is lazy) for each import of the package by itself.

    Lazy: the import stands inside a function.
    """
    package = ["spa_lib", *path.relative_to(PACKAGE).parent.parts]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            of_modules = target in ("spa_lib", "") or not node.module
            names = [f"{target}.{a.name}" for a in node.names] if of_modules else [target]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            continue
        for name in names:
            if name.startswith("spa_lib."):
                found.append((name.removeprefix("spa_lib."), node.lineno, node.col_offset > 0))
    return found


def height(name, floors):
    return next((i for i, names in enumerate(floors) if name in names), None)


def fault(importer, imported, lazy=False):
    """What is wrong with an import; None where it fits.

    Both are module paths below spa_lib, such as "runs.config".
    """
    if imported == "__version__":
        return None
    (top, *rest), (target, *under) = importer.split("."), imported.split(".")
    if (importer == "train" and imported == "cli" or importer == "cli") and lazy:
        return None
    if top != target:
        here, there = height(top, FLOORS), height(target, FLOORS)
        if here is None or there is None:
            return f"{top if here is None else target} stands on no floor: see FLOORS"
        if there < here:
            return None
        return f"{importer} (floor {here + 1}) imports {imported} (floor {there + 1})"
    if not rest:
        return None
    if not under:
        return f"{importer} imports its own folder {target}: a sibling imports from the module"
    here, there = height(rest[0], INSIDE[top]), height(under[0], INSIDE[top])
    if here is None or there is None:
        return f"{importer} or {imported} has no place in INSIDE"
    return None if there < here else f"{importer} imports {imported}, which stands beside or above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    importer = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    faults = {}
    for name, line, lazy in imports_of(path):
        if why := fault(importer, name, lazy):
            faults[importer, name] = f"line {line}: {why}"
    new = [why for pair, why in faults.items() if pair not in PENDING]
    assert not new, "\n".join(new)
    gone = {p for p in PENDING if p[0] == importer} - faults.keys()
    assert not gone, f"no longer pending: {gone}"


def test_pending_imports_are_of_modules_that_exist():
    modules = {".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in MODULES}
    assert {importer for importer, _ in PENDING} <= modules


def test_an_import_upwards_is_a_fault():
    assert fault("losses", "runs") and fault("text", "data")
    assert fault("data.audio", "data.clips") and fault("runs.config", "runs")
    assert not fault("runs.config", "metrics") and not fault("data.clips", "data.audio")
    assert not fault("cli", "runs.plan", lazy=True)


def test_names_in_sight():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    modules = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "_modidx"}
    assert folders | modules <= NAMES_IN_SIGHT, (folders | modules) - NAMES_IN_SIGHT


def test_no_module_is_called_like_a_public_name_of_its_folder():
    for folder in {p.parent for p in MODULES} - {PACKAGE}:
        package = importlib.import_module(".".join(folder.relative_to(ROOT).parts))
        both = {p.stem for p in folder.glob("*.py")} & set(getattr(package, "__all__", ()))
        assert not both, f"{folder.name}: {both}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_notebook_mirrors_its_module(path):
    """A numbered notebook exports the module of its name, or the front module of the folder of its name.

    Every other notebook mirrors its module's path.
    """
    cells = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    exports = [m.group(1) for c in cells if (m := re.match(r"#\| default_exp (\S+)", c))]
    if not exports:
        return
    module = exports[0]
    notebook = path.relative_to(ROOT / "nbs").with_suffix("")
    name = ".".join(notebook.parts)
    if numbered := re.match(r"\d\d[a-z]?_(\w+)$", name):
        assert module.split(".")[0] == numbered.group(1) and module.count(".") <= 1
    else:
        assert module == name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_notebooks_resolve(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            for link in re.findall(r"\]\(([^)#\s]+)", "".join(cell["source"])):
                if not re.match(r"\w+:", link):
                    assert os.path.exists(path.parent / link), link
