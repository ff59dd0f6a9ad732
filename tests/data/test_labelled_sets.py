"""Sets with one label a clip: their categories, their folds, and classes that are held out."""
import pytest

from spa_lib.data import class_names, labelled_clips, pick_unseen, split_by_fold, weak_classes
from spa_lib.ontology import Ontology


def test_categories_have_ids_of_their_own():
    full = Ontology.audioset()
    for name, n in (("esc50", 50), ("urbansound8k", 10)):
        categories = class_names(name)
        assert len(categories) == len(set(categories.values())) == n and set(categories) <= set(full.mids)
    weak = {class_names("esc50")[mid] for mid in weak_classes("esc50")}
    assert weak == {"drinking_sipping", "can_opening", "washing_machine"}


def test_esc10_and_esc50_keep_every_class(shared):
    table, names = labelled_clips("esc10", shared / "data" / "ESC-50-part")
    assert len(table) == 400 and len(names) == 10 and table.groupby("fold").size().tolist() == [80] * 5
    assert (table.mids.map(len) == 1).all() and "crying_baby" in names.values()
    table, names = labelled_clips("esc50", shared / "data" / "ESC-50-part")
    assert len(table) == 731 and len(names) == 50
    assert {"can_opening", "washing_machine"} <= set(names.values())
    a, b = (set(part.recording) for part in split_by_fold(table, 4))
    assert a & b == {"209698", "234879"}  # ESC-50's own: two recordings have clips in folds 4 and 5
    table, names = labelled_clips("urbansound8k", shared / "data" / "UrbanSound8K-part")
    assert len(names) == 10 and set(table.fold) == {1, 2}


def test_unseen_classes_are_drawn_by_the_seed():
    assert pick_unseen(list("abcdef"), 2, 0) == pick_unseen(list("abcdef"), 2, 0)
    with pytest.raises(ValueError, match="1 to 5"):
        pick_unseen(list("abcdef"), 6, 0)
