"""The paper's printed numbers, and the files that tables and pictures are written to."""
import re

import pandas as pd
import pytest

from spa_lib.results import paper_table, write_artefact

NAMES = dict(psla="PSLA", panns="PANN", ast="AST", passt="PaSST", htsat="HTS-AT")


def printed(text, table, encoder):
    """The numbers in an encoder's row of a table of the paper."""
    part = text[text.index(f"Table {table}: "):]
    row = re.search(rf"^(?:<b>)?{NAMES[encoder]}(?:</b>)?\s*\[.*$", part, re.M).group()
    row = re.sub(r"\[\d+\]|</?b>|HTS-AT", "", row).replace(" 769", " 76.9").replace("\t769\t", "\t76.9\t")
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", row)]


def test_paper_tables_are_the_printed_ones(shared):
    text = (shared / "papers" / "spa.txt").read_text().replace("$", " ")
    columns = [f"{metric}_{what}" for metric in ("mAP", "OmAP") for what in ("without", "with", "printed")]
    for encoder in NAMES:
        assert printed(text, 1, encoder) == paper_table(1).loc[encoder, columns].tolist()
        assert printed(text, 2, encoder) == paper_table(2).loc[encoder].tolist()
        assert printed(text, 3, encoder) == paper_table(3).loc[encoder, ["without", "with"]].tolist()
    labels = re.search(r"^Audioset label\s+([\d.]+)", text, re.M).group(1)
    assert float(labels) == paper_table(3).loc["audioset_labels", "without"]


@pytest.mark.parametrize("name, key", [("../x", ""), ("x", "/y"), ("", "")])
def test_names_of_artefacts_cannot_leave_the_folder(tmp_path, name, key):
    with pytest.raises(ValueError, match="name"):
        write_artefact(name, tables={key: pd.DataFrame({"a": [1]})}, folder=tmp_path)
    assert not list(tmp_path.iterdir())
