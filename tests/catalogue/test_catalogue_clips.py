"""Lists and folders of clips as people have them: AudioSet's layout, ESC-50, UrbanSound8K, a csv, rows."""

import os
import shutil

import numpy as np
import pytest
import soundfile

from spa_lib.data import dataset_clips, examine_sides, find_leaks, read_clips, read_segments, without_leaks

OK, RATE = 0, 16000
SPEECH, DOG, BARK, MUSIC = "/m/09x0r", "/m/0bt9lr", "/m/05tny_", "/m/04rlf"
IDS = ["aaaaaaaaaa1", "-bbbbbbbbb2", "ccc_cccc-c3"]
COLUMNS = "# YTID, start_seconds, end_seconds, positive_labels\n"
HEAD = f"# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=3\n{COLUMNS}"


def sound(path, x=None, seed=0):
    """A second of noise in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = 0.3 * np.random.default_rng(seed).normal(size=RATE) if x is None else x
    soundfile.write(path, x, RATE, subtype="FLOAT" if path.suffix == ".wav" else None)


def described(table):
    """What a table holds, in one line."""
    labels, sides = sum(map(len, table.mids)), table.split.value_counts().to_dict()
    problems = [p["problem"] for p in table.attrs.get("problems", [])]
    return f"{len(table)} clips, {labels} labels, {sides}, left out: {problems}"


# ---- AudioSet


def audioset(lines, names=None, head=HEAD, name="train_segments.csv", **options):
    """A folder in AudioSet's layout: the list's lines, and the names of the files of sound."""

    def make(folder):
        (folder / name).write_bytes(
            head.encode() + lines if isinstance(lines, bytes) else (head + "\n".join(lines) + "\n").encode()
        )
        for number, file in enumerate([f"{i}.wav" for i in IDS] if names is None else names):
            sound(folder / "clips" / file, seed=number)
        return dict(source="audioset", root=folder, **options)

    return make


def rows(first=SPEECH, second=f"{DOG},{BARK}", third=MUSIC, quote='"'):
    labels = [f"{quote}{cell}{quote}" for cell in (first, second, third)]
    return [f"{i}, {30 + n}.000, {40 + n}.000, {cell}" for n, (i, cell) in enumerate(zip(IDS, labels))]


def linked_folder(folder):
    """The folder of clips is a link to another disk."""
    given = audioset(rows())(folder)
    shutil.move(folder / "clips", folder / "other disk")
    (folder / "clips").mkdir()
    (folder / "clips" / "eval").symlink_to(folder / "other disk")
    return given


def linked_files(folder):
    given = audioset(rows())(folder)
    shutil.move(folder / "clips", folder / "other disk")
    (folder / "clips").mkdir()
    for path in (folder / "other disk").iterdir():
        (folder / "clips" / path.name).symlink_to(path)
    return given


def link_that_leads_back(folder):
    given = audioset(rows())(folder)
    (folder / "clips" / "loop").symlink_to(folder / "clips")
    return given


def broken_link(folder):
    given = audioset(rows(), names=[f"{i}.wav" for i in IDS[:2]])(folder)
    (folder / "clips" / f"{IDS[2]}.wav").symlink_to(folder / "nowhere.wav")
    return given


def with_files(*files):
    """AudioSet's layout, and further files beside the sound."""

    def make(folder):
        given = audioset(rows())(folder)
        for file in files:
            (folder / "clips" / file).parent.mkdir(exist_ok=True, parents=True)
            (folder / "clips" / file).write_text("{}")
        return given

    return make


def empty_file(folder):
    given = audioset(rows())(folder)
    (folder / "clips" / f"{IDS[0]}.wav").write_bytes(b"")
    return given


def folder_as_clip(folder):
    given = audioset(rows(), names=[f"{i}.wav" for i in IDS[:2]])(folder)
    (folder / "clips" / f"{IDS[2]}.wav").mkdir()
    return given


ALL_LABELS = "3 clips, 4 labels, {'train': 3}, left out: []"
ONE_MISSING = "1 of 3 clips cannot be used: 1 missing"

AUDIOSET = [
    ("as it is published", audioset(rows()), OK, ALL_LABELS),
    ("labels without quotes", audioset(rows(quote="")), OK, ALL_LABELS),
    ("labels without quotes, with blanks", audioset(rows(second=f"{DOG}, {BARK}", quote="")), OK, ALL_LABELS),
    ("labels with blanks", audioset(rows(second=f"{DOG}, {BARK}")), OK, ALL_LABELS),
    ("labels in single quotes", audioset(rows(quote="'")), ValueError, "4 unknown label"),
    (
        "labels separated by semicolons",
        audioset(rows(second=f"{DOG};{BARK}")),
        ValueError,
        "'/m/0bt9lr;/m/05tny_'",
    ),
    ("names instead of ids", audioset(rows("Speech", "Dog,Bark", "Music")), OK, ALL_LABELS),
    ("an id with a missing sign", audioset(rows(SPEECH[:-1])), ValueError, "1 unknown label"),
    (
        "an abstract class",
        audioset(rows("/m/0dgw9r")),
        ValueError,
        "is in the hierarchy, but is not one of its 527",
    ),
    ("a class of Freesound", audioset(rows("/m/07qcpgn,/t/dd00000")), ValueError, "unknown label"),
    (
        "a class of Freesound, dropped",
        audioset(rows(f"{SPEECH},/t/dd00000"), on_label="drop"),
        OK,
        "dropped labels that are no class, from so many clips: '/t/dd00000' (1)",
    ),
    (
        "only a class of Freesound, dropped",
        audioset(rows("/t/dd00000"), on_label="drop"),
        ValueError,
        "no label (each of its labels is dropped)",
    ),
    ("a row without labels", audioset(rows("")), ValueError, "1 no label"),
    ("a label twice", audioset(rows(second=f"{DOG},{DOG},{BARK}")), OK, ALL_LABELS),
    (
        "a row of three fields",
        audioset(rows()[:2] + [f"{IDS[2]}, 30, 40"]),
        ValueError,
        "line 6 cannot be read: 3 fields of 4",
    ),
    (
        "a time that is no number",
        audioset([rows()[0].replace("30.000", "thirty")]),
        ValueError,
        "start_seconds is no number",
    ),
    (
        "a time that is nan",
        audioset([rows()[0].replace("30.000", "nan")]),
        ValueError,
        "start_seconds is no number",
    ),
    (
        "separated by semicolons",
        audioset([rows()[0].replace(",", ";")]),
        ValueError,
        "separated by ; instead of a comma",
    ),
    (
        "separated by tabs",
        audioset([rows()[0].replace(", ", "\t")]),
        ValueError,
        "cannot be read: 1 field of 4",
    ),
    ("with a byte order mark", audioset(rows(), head="\ufeff" + HEAD), OK, ALL_LABELS),
    (
        "with a header row",
        audioset(["YTID,start_seconds,end_seconds,positive_labels", *rows()]),
        OK,
        ALL_LABELS,
    ),
    ("with blank lines", audioset([rows()[0], "", *rows()[1:], "", ""]), OK, ALL_LABELS),
    ("with lines that end as in Windows", audioset([row + "\r" for row in rows()]), OK, ALL_LABELS),
    (
        "ids that a spreadsheet replaced",
        audioset([rows()[0], rows()[1].replace(IDS[1], "#NAME?")]),
        ValueError,
        "1 rows have lost their ids, as happens in a spreadsheet",
    ),
    (
        "a row without id",
        audioset([rows()[0].replace(IDS[0], "")]),
        ValueError,
        "line 4 cannot be read: no id",
    ),
    ("in UTF-16", audioset("\n".join(rows()).encode("utf-16"), head=""), ValueError, "is not UTF-8 text"),
    (
        "in Latin-1",
        audioset('caf\u00e9______1, 0, 1, "/m/09x0r"'.encode("latin-1"), head=""),
        ValueError,
        "is not UTF-8 text",
    ),
    ("an empty list", audioset([], head=""), OK, "0 clips, 0 labels"),
    ("only comments", audioset([]), OK, "0 clips, 0 labels"),
    ("no list", audioset(rows(), name="clips.csv"), FileNotFoundError, "no *_segments.csv in"),
    (
        "a list that is not there",
        audioset(rows(), segments="eval_segments.csv"),
        FileNotFoundError,
        "eval_segments.csv",
    ),
    ("a list with eval in its name", audioset(rows(), name="eval_segments.csv"), OK, "{'eval': 3}"),
    ("an id twice", audioset([*rows(), rows()[0]]), ValueError, "1 duplicated id"),
    ("no folder of clips", audioset(rows(), names=[]), ValueError, "there is no folder"),
    ("a folder of clips without sound", audioset(rows(), clips="none"), ValueError, "3 missing"),
    ("files called Y<id>", audioset(rows(), names=[f"Y{i}.wav" for i in IDS]), OK, ALL_LABELS),
    (
        "files called <id>_<start>_<end>",
        audioset(rows(), names=[f"{i}_{30 + n}.000_{40 + n}.000.wav" for n, i in enumerate(IDS)]),
        OK,
        ALL_LABELS,
    ),
    (
        "files called Y<id>_<start>_<end>",
        audioset(rows(), names=[f"Y{i}_{30 + n}.000_{40 + n}.000.flac" for n, i in enumerate(IDS)]),
        OK,
        ALL_LABELS,
    ),
    (
        "several pieces of one video",
        audioset(
            rows(),
            names=[
                f"{IDS[0]}_10.000_20.000.wav",
                f"{IDS[0]}_30.000_40.000.wav",
                *(f"{i}.wav" for i in IDS[1:]),
            ],
        ),
        OK,
        ALL_LABELS,
    ),
    (
        "pieces, none of them the one",
        audioset(
            rows(),
            names=[f"{IDS[0]}_1.000_2.000.wav", f"{IDS[0]}_3.000_4.000.wav", *(f"{i}.wav" for i in IDS[1:])],
        ),
        ValueError,
        "1 ambiguous",
    ),
    (
        "files in folders of folders",
        audioset(rows(), names=[f"part/{n}/{i}.wav" for n, i in enumerate(IDS)]),
        OK,
        ALL_LABELS,
    ),
    (
        "files called by numbers",
        audioset(rows(), names=["1.wav", "2.wav", "3.wav"]),
        ValueError,
        "3 files of sound are in",
    ),
    (
        "a file with other capitals",
        audioset(rows(), names=[f"{IDS[0].upper()}.wav", *(f"{i}.wav" for i in IDS[1:])]),
        ValueError,
        "called -bbbbbbbbb2.wav, AAAAAAAAAA1.wav, ccc_cccc-c3.wav",
    ),
    ("one file is lost", audioset(rows(), names=[f"{i}.wav" for i in IDS[:2]]), ValueError, ONE_MISSING),
    (
        "one file is lost, left out",
        audioset(rows(), names=[f"{i}.wav" for i in IDS[:2]], on_problem="leave_out"),
        OK,
        "2 clips, 3 labels, {'train': 2}, left out: ['missing']",
    ),
    (
        "two files of one name",
        audioset(rows(), names=[*(f"{i}.wav" for i in IDS), f"{IDS[0]}.flac"]),
        ValueError,
        "1 ambiguous",
    ),
    (
        "two folders with one clip",
        audioset(rows(), names=[*(f"{i}.wav" for i in IDS), f"b/{IDS[0]}.wav"]),
        ValueError,
        "1 ambiguous",
    ),
    ("a sidecar .json beside each", with_files(*(f"{i}.json" for i in IDS)), OK, ALL_LABELS),
    (
        "a .txt, .jpg and .vtt beside one",
        with_files(*(f"{IDS[0]}{s}" for s in (".txt", ".jpg", ".vtt"))),
        OK,
        ALL_LABELS,
    ),
    ("a download that broke off beside it", with_files(f"{IDS[0]}.part", f".{IDS[0]}.wav"), OK, ALL_LABELS),
    ("clips behind a link to a folder", linked_folder, OK, ALL_LABELS),
    ("clips behind links to files", linked_files, OK, ALL_LABELS),
    ("a link that leads back", link_that_leads_back, OK, ALL_LABELS),
    ("a link that leads nowhere", broken_link, ValueError, ONE_MISSING),
    ("an empty file", empty_file, ValueError, "1 empty"),
    ("a folder called as a file", folder_as_clip, ValueError, ONE_MISSING),
]

# ---- a csv


def table(text, files=("a.wav", "b.wav"), encoding="utf-8", **options):
    def make(folder):
        (folder / "clips.csv").write_bytes(text.encode(encoding))
        for number, file in enumerate(files):
            sound(folder / file, seed=number)
        return dict(source="csv", root=folder / "clips.csv", **options)

    return make


BOTH = "path,labels\na.wav,Speech\nb.wav,Dog;Bark\n"
TWO = "2 clips, "

CSV = [
    ("path and labels", table(BOTH), OK, TWO),
    ("ids of classes, quoted", table(f'path,labels\na.wav,"{DOG},{BARK}"\nb.wav,{MUSIC}\n'), OK, TWO),
    (
        "names with commas, quoted",
        table('path,labels\na.wav,"Male speech, man speaking"\nb.wav,Dog\n'),
        OK,
        TWO,
    ),
    (
        "names with commas, not quoted",
        table("path,labels\na.wav,Male speech, man speaking\nb.wav,Dog\n"),
        ValueError,
        "clips.csv cannot be read as a csv: line 2 has 3 fields, its header 2. Quote",
    ),
    (
        "every row has a field too many",
        table("path,labels\na.wav,Dog,Bark\nb.wav,Dog,Bark\n"),
        ValueError,
        "Quote what holds a comma",
    ),
    (
        "labels separated by a bar",
        table("path,labels\na.wav,Dog|Bark\nb.wav,Dog\n"),
        ValueError,
        "1 unknown label",
    ),
    ("a class misspelt", table("path,labels\na.wav,Rian\nb.wav,Dog\n"), ValueError, "did you mean 'Rain'?"),
    (
        "a class in small letters",
        table("path,labels\na.wav,speech\nb.wav,Dog\n"),
        ValueError,
        "did you mean 'Speech'?",
    ),
    ("no label", table("path,labels\na.wav,\nb.wav,Dog\n"), ValueError, "1 no label"),
    ("a class is called None", table("path,labels\na.wav,None\nb.wav,NA\n"), ValueError, "2 unknown label"),
    ("only semicolons as labels", table("path,labels\na.wav,;;\nb.wav,Dog\n"), ValueError, "1 no label"),
    (
        "columns of other names",
        table("file,label\na.wav,Dog\n"),
        ValueError,
        "has no column 'path', only ['file', 'label']",
    ),
    (
        "separated by semicolons",
        table("path;labels\na.wav;Dog\n"),
        ValueError,
        "separate them by a comma, not by ';'",
    ),
    (
        "separated by tabs",
        table("path\tlabels\na.wav\tDog\n"),
        ValueError,
        "separate them by a comma, not by",
    ),
    ("no header", table("a.wav,Dog\nb.wav,Dog\n"), ValueError, "has no column 'path'"),
    ("only a header", table("path,labels\n"), ValueError, "lists no clip: it has a header and no rows"),
    ("an empty csv", table(""), ValueError, "is empty: a first line with the names of its columns is needed"),
    ("in UTF-16", table(BOTH, encoding="utf-16"), ValueError, "is not UTF-8 text"),
    (
        "in Latin-1",
        table("path,labels\ncaf\u00e9.wav,Dog\n", encoding="latin-1"),
        ValueError,
        "is not UTF-8 text",
    ),
    ("with a byte order mark", table("\ufeff" + BOTH), OK, TWO),
    ("with lines that end as in Windows", table(BOTH.replace("\n", "\r\n")), OK, TWO),
    (
        "paths of Windows",
        table("path,labels\nd\\a.wav,Dog\nb.wav,Dog\n"),
        ValueError,
        ONE_MISSING.replace("3", "2"),
    ),
    ("a path that is not there", table(BOTH, files=["a.wav"]), ValueError, "1 missing"),
    (
        "a path with blanks and umlauts",
        table("path,labels\nd \u00fc/a.wav,Dog\n", files=["d \u00fc/a.wav"]),
        OK,
        "1 clips",
    ),
    ("one file twice", table("path,labels\na.wav,Dog\na.wav,Bark\n"), ValueError, "1 duplicated id"),
    ("one file twice, with ids", table("path,labels,clip_id\na.wav,Dog,1\na.wav,Dog,2\n"), OK, TWO),
    (
        "a side that is called test",
        table("path,labels,split\na.wav,Dog,train\nb.wav,Dog,test\n"),
        ValueError,
        "unknown split in",
    ),
    (
        "a fold that is no number",
        table("path,labels,fold\na.wav,Dog,one\nb.wav,Dog,2\n"),
        ValueError,
        "line 2: column 'fold'",
    ),
    (
        "a time that is no number",
        table("path,labels,start_seconds\na.wav,Dog,0:30\nb.wav,Dog,2\n"),
        ValueError,
        "line 2: column 'start_seconds'",
    ),
    (
        "a csv that is not there",
        lambda folder: dict(source="csv", root=folder / "no.csv"),
        FileNotFoundError,
        "there is no csv",
    ),
    (
        "a folder instead of the csv",
        lambda folder: dict(source="csv", root=folder),
        ValueError,
        "is a folder: give the csv in it",
    ),
    ("no root", lambda folder: dict(source="csv"), ValueError, "the source 'csv' needs root="),
    ("a json file", table('[{"path": "a.wav"}]'), ValueError, "has no column 'path'"),
    (
        "a broken regular expression",
        table(BOTH, recording_pattern="([a-z"),
        ValueError,
        "recording_pattern '([a-z' is no regular expression",
    ),
    (
        "an expression that matches nothing",
        table(BOTH, recording_pattern=r"^\d+"),
        ValueError,
        "matches 0 of 2 clip ids",
    ),
    (
        "an expression that matches some",
        table(BOTH, recording_pattern="^a"),
        ValueError,
        "matches 1 of 2 clip ids",
    ),
    ("on_problem misspelt", table(BOTH, on_problem="leave out"), ValueError, "Did you mean 'leave_out'?"),
    ("on_label misspelt", table(BOTH, on_label="dorp"), ValueError, "Did you mean 'drop'?"),
    (
        "an option of another source",
        table(BOTH, eval_fold=1),
        ValueError,
        "unknown option of csv 'eval_fold'",
    ),
    (
        "a source misspelt",
        lambda folder: dict(source="audiset", root=folder),
        ValueError,
        "Did you mean 'audioset'?",
    ),
]

# ---- ESC-50 and UrbanSound8K

ESC = (
    "filename,fold,target,category,esc10,src_file,take\n"
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n2-200032-A-0.wav,2,0,dog,True,200032,A\n"
    "3-300032-A-10.wav,3,10,rain,True,300032,A\n"
)
URBAN = (
    "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    "100032-3-0-0.wav,100032,0.0,0.3,1,5,3,dog_bark\n100263-2-0-117.wav,100263,58.5,62.5,1,1,2,children_playing\n"
)


def esc50(text=ESC, **options):
    def make(folder):
        (folder / "meta").mkdir()
        (folder / "meta" / "esc50.csv").write_text(text)
        for number, row in enumerate(ESC.splitlines()[1:]):
            sound(folder / "audio" / row.split(",")[0], seed=number)
        return dict(source="esc50", root=folder) | options

    return make


def urbansound(text=URBAN, files=True, **options):
    def make(folder):
        (folder / "metadata").mkdir()
        (folder / "metadata" / "UrbanSound8K.csv").write_text(text)
        for number, row in enumerate(URBAN.splitlines()[1:] if files else []):
            name, *_, fold, _, _ = row.split(",")
            sound(folder / "audio" / f"fold{fold}" / name, seed=number)
        return dict(source="urbansound8k", root=folder) | options

    return make


SETS = [
    ("ESC-50", esc50(), OK, "3 clips"),
    ("ESC-10 of it", esc50(source="esc10"), OK, "3 clips"),
    ("ESC-50, a fold evaluated", esc50(eval_fold=2), OK, "{'train': 2, 'eval': 1}"),
    ("ESC-50, fold 7", esc50(eval_fold=7), ValueError, "unknown eval_fold of esc50 '7'"),
    (
        "ESC-50, a category of one's own",
        esc50(ESC.replace(",rain,", ",hail,")),
        ValueError,
        "1 unknown label",
    ),
    (
        "ESC-50, other columns",
        esc50(ESC.replace("src_file", "source")),
        ValueError,
        "has no column 'src_file'",
    ),
    ("ESC-50, an empty list", esc50(""), ValueError, "is empty"),
    (
        "ESC-50, a file lost",
        esc50(ESC + "5-1-A-0.wav,5,0,dog,True,1,A\n"),
        ValueError,
        "1 of 4 clips cannot be used: 1 missing",
    ),
    (
        "ESC-50 that is not there",
        lambda folder: dict(source="esc50", root=folder),
        FileNotFoundError,
        "download=True to fetch",
    ),
    ("UrbanSound8K", urbansound(), OK, "2 clips, 5 labels"),
    ("UrbanSound8K, no sound", urbansound(files=False), ValueError, "2 missing"),
    (
        "UrbanSound8K, other columns",
        urbansound(URBAN.replace("fsID", "id")),
        ValueError,
        "has no column 'fsID'",
    ),
    ("UrbanSound8K, fold 11", urbansound(eval_fold=11), ValueError, "unknown eval_fold of urbansound8k"),
    (
        "UrbanSound8K that is not there",
        lambda folder: dict(source="urbansound8k", root=folder),
        FileNotFoundError,
        "no metadata/UrbanSound8K.csv in",
    ),
]
LISTS = (
    [(f"AudioSet: {row[0]}", *row[1:]) for row in AUDIOSET]
    + [(f"csv: {row[0]}", *row[1:]) for row in CSV]
    + SETS
)


@pytest.mark.parametrize("what, make, outcome, sentence", LISTS, ids=[row[0] for row in LISTS])
def test_list(what, make, outcome, sentence, tmp_path, meets):
    given = make(tmp_path)
    meets(lambda: described(read_clips(**given)), outcome, sentence)


# ---- rows of a data set: what stands in the column of labels | what comes of it | what must be said

ROWS = [
    ("a name", "Speech", OK, "['/m/09x0r']"),
    ("an id", DOG, OK, "['/m/0bt9lr']"),
    ("a number", 0, OK, "['/m/09x0r']"),
    ("names", ["Dog", "Bark"], OK, "2 labels"),
    ("numbers", [0, 526], OK, "2 labels"),
    ("a vector of zeros and ones", np.eye(527)[137].tolist(), OK, "['/m/04rlf']"),
    ("a vector of booleans", (np.arange(527) == 137).tolist(), OK, "['/m/04rlf']"),
    ("a vector of 50", np.eye(50)[3].tolist(), ValueError, "a vector of 50 numbers stands for 527 classes"),
    ("-1", -1, ValueError, "-1 is none of the 527 classes"),
    ("527", 527, ValueError, "527 is none of the 527 classes"),
    ("a half", 0.5, ValueError, "0.5 is no whole number"),
    ("nan", float("nan"), ValueError, "has no label at all"),
    ("None", None, ValueError, "has no label at all"),
    ("an empty list", [], ValueError, "has no label at all"),
    ("a number twice", [3, 3, 5], ValueError, "3 stands twice"),
    ("a misspelt name", "Speach", ValueError, "'Speech'"),
    ("a dict", {"label": 1}, ValueError, "is neither a name nor a whole number"),
    ("probabilities", [0.1, 0.9], ValueError, "is no whole number"),
]


@pytest.mark.parametrize("what, labels, outcome, sentence", ROWS, ids=[row[0] for row in ROWS])
def test_row(what, labels, outcome, sentence, ontology, meets):
    def call():
        found, _ = dataset_clips([dict(id="a", labels=labels, audio=None)], ontology)
        return f"{[list(m)[0] for m in found.mids]} {len(found.mids[0])} labels"

    meets(call, outcome, sentence)


SOUNDS = [
    ("floats", dict(array=np.zeros(9), sampling_rate=RATE), OK, "(9,)"),
    ("int16", dict(array=np.full(9, 16384, np.int16), sampling_rate=RATE), OK, "0.5"),
    ("frames, channels", dict(array=np.zeros((90, 2)), sampling_rate=RATE), OK, "(90,)"),
    ("channels, frames", dict(array=np.zeros((2, 90)), sampling_rate=RATE), OK, "(90,)"),
    (
        "int64",
        dict(array=np.zeros(9, int), sampling_rate=RATE),
        ValueError,
        "whole numbers of unknown full scale",
    ),
    ("a square", dict(array=np.zeros((9, 9)), sampling_rate=RATE), ValueError, "which of the axes"),
    ("three axes", dict(array=np.zeros((1, 2, 9)), sampling_rate=RATE), ValueError, "an array of 3 axes"),
    ("no rate", dict(array=np.zeros(9)), ValueError, "sampling_rate is None"),
    ("a rate of 0", dict(array=np.zeros(9), sampling_rate=0), ValueError, "sampling_rate is 0"),
    (
        "a rate of 16 kHz in kHz",
        dict(array=np.zeros(9), sampling_rate=44.1),
        ValueError,
        "sampling_rate is 44.1",
    ),
    ("nothing", None, ValueError, "neither array nor bytes nor path"),
    ("a list", [0.0, 0.1], ValueError, "holds a list, not array, bytes or path"),
]


@pytest.mark.parametrize("what, audio, outcome, sentence", SOUNDS, ids=[row[0] for row in SOUNDS])
def test_sound_of_a_row(what, audio, outcome, sentence, ontology, meets):
    def call():
        _, sounds = dataset_clips([dict(id="a", labels="Speech", audio=audio)], ontology)
        wave, rate = sounds[0]
        return f"{wave.shape} {wave[0]}"

    meets(call, outcome, sentence)


# ---- both sides: paths and recordings of the training and of the evaluation side


def sides(second_train="b", second_eval="d", recordings="1234", content=None):
    """Two clips a side; `content` makes the file of one the copy of another."""

    def make(folder):
        names = ["a", second_train, "c", second_eval]
        lines = ["path,labels,split,clip_id,recording"]
        for n, (name, recording) in enumerate(zip(names, recordings)):
            sound(folder / f"{name}.wav", seed=n)
            lines.append(f"{name}.wav,Speech,{'train' if n < 2 else 'eval'},{n},{recording}")
        if content:
            shutil.copy(folder / f"{content[0]}.wav", folder / f"{content[1]}.wav")
        (folder / "clips.csv").write_text("\n".join(lines))
        found = read_clips("csv", folder / "clips.csv")
        return found[found.split == "train"], found[found.split == "eval"]

    return make


LEAKS = [
    ("nothing in common", sides(), "refuse", OK, "2 of 2"),
    ("one recording on both sides", sides(recordings="1223"), "refuse", ValueError, "(1 by recording)"),
    ("one file on both sides", sides(second_eval="b"), "refuse", ValueError, "(1 by content)"),
    ("one content under two names", sides(content=("c", "a")), "refuse", ValueError, "the same content"),
    ("both", sides(recordings="1223", content=("c", "a")), "refuse", ValueError, "2 of 2 training clips"),
    ("one recording, left out", sides(recordings="1223"), "leave_out", OK, "1 of 2"),
    ("on_leak misspelt", sides(), "leave out", ValueError, "Did you mean 'leave_out'?"),
]


@pytest.mark.parametrize("what, make, on_leak, outcome, sentence", LEAKS, ids=[row[0] for row in LEAKS])
def test_leak(what, make, on_leak, outcome, sentence, tmp_path, meets, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    train, evaluate = make(tmp_path)
    meets(lambda: f"{len(without_leaks(train, evaluate, on_leak))} of {len(train)}", outcome, sentence)
    assert bool(find_leaks(train, evaluate)) == (what not in ("nothing in common", "on_leak misspelt"))


# ---- all clips before the first step: what two of six clips are | on_problem, on_doubt | outcome | sentence

EXAMINED = [
    ("all whole", {}, ("refuse", "keep"), OK, "[3, 3]"),
    (
        "one cut on each side",
        {1: "cut", 4: "cut"},
        ("refuse", "keep"),
        ValueError,
        "2 of 6 clips cannot be used: 2 truncated",
    ),
    ("one cut on each side, left out", {1: "cut", 4: "cut"}, ("leave_out", "keep"), OK, "[2, 2]"),
    (
        "one silent on each side",
        {1: "silent", 4: "silent"},
        ("refuse", "keep"),
        OK,
        "2 of 6 clips decode, but may hold nothing to hear: 2 silent",
    ),
    ("one silent, refused", {1: "silent"}, ("refuse", "refuse"), ValueError, "on_doubt='leave_out'"),
    ("one silent, left out", {1: "silent"}, ("refuse", "leave_out"), OK, "[2, 3]"),
    (
        "a constant and int16 as float",
        {1: "constant", 4: "loud"},
        ("refuse", "keep"),
        OK,
        "1 constant, 1 out of scale",
    ),
    ("one cut and one silent", {1: "cut", 4: "silent"}, ("refuse", "keep"), ValueError, "1 truncated"),
    ("on_doubt misspelt", {}, ("refuse", "drop"), ValueError, "unknown on_doubt 'drop'"),
]


@pytest.mark.parametrize(
    "what, damage, choice, outcome, sentence", EXAMINED, ids=[row[0] for row in EXAMINED]
)
def test_examined(what, damage, choice, outcome, sentence, tmp_path, meets, monkeypatch):
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    lines = ["path,labels,split"]
    for n in range(6):
        x = 0.3 * np.random.default_rng(n).normal(size=RATE)
        x = dict(silent=0 * x, constant=0 * x + 0.5, loud=30000 * x).get(damage.get(n), x)
        sound(tmp_path / f"{n}.wav", x)
        lines.append(f"{n}.wav,Speech,{'train' if n < 3 else 'eval'}")
        if damage.get(n) == "cut":
            os.truncate(tmp_path / f"{n}.wav", 9999)
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    found = read_clips("csv", tmp_path / "clips.csv")
    both = [found[found.split == side] for side in ("train", "eval")]
    meets(lambda: [len(side) for side in examine_sides(both, *choice, progress=False)], outcome, sentence)


def test_a_list_that_is_not_there(tmp_path, meets):
    meets(lambda: read_segments(tmp_path / "no.csv"), FileNotFoundError, "no.csv")
