"""The paper's tables and figures, drawn from made-up runs: equal bytes, and nothing from a damaged run."""
import json

import pytest

NOTEBOOKS = {
    "table1_encoders": {}, "table2_descriptions": {}, "fig3_omap_by_level": {},
    "alpha": dict(side="evaluation", alpha=0.1),
}


def draw(root, name, folder, **values):
    """Run a notebook's cells as papermill does, in this process."""
    import matplotlib.pyplot as plt

    given = dict(runs=str(folder), source="synth", data="made-up scores", replicates=20, figure="x") | values
    scope = {}
    for cell in json.loads((root / "nbs" / "paper" / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        exec("".join(cell["source"]), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope.update(given)
    plt.close("all")


@pytest.fixture
def figures(tmp_path, monkeypatch):
    """The figures/ of a working folder outside the checkout, which takes what is drawn."""
    import matplotlib

    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    matplotlib.use("Agg")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / "figures"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_drawn_twice_is_equal_and_another_run_shows(root, folder, make_run, figures, name, capsys):
    drawn = []
    for time in range(3):
        if time == 2:
            make_run(folder, 3, encoder="passt"), make_run(folder, 3, 0.1, encoder="passt")
        draw(root, name, folder, **NOTEBOOKS[name])
        drawn.append({p.name: p.read_bytes() for p in figures.iterdir()})
        for p in figures.iterdir():
            p.unlink()
    first, again, with_another = drawn
    assert first == again and b"<path" in first["x.svg"]
    assert {p for p in first if first[p] != with_another[p]} >= {"x.svg", "x.csv", "x_runs.csv"}
    assert "synthetic clips (made-up scores)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["configuration", "class order"])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_damaged_run_stops_the_table_and_nothing_is_written(root, folder, damage, figures, name, kind):
    damaged, message = damage(kind)
    with pytest.raises(ValueError, match=message) as error:
        draw(root, name, folder, **NOTEBOOKS[name])
    assert damaged in str(error.value) and not figures.exists()
