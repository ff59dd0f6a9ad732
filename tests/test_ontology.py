"""The ontology against AudioSet's own files, an independent path search, and the definition of OmAP."""
import hashlib
import json
import time
from collections import Counter, deque
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spa_lib.ontology as module
from spa_lib.ontology import (
    METHODS,
    ONTOLOGY_SHA256,
    Ontology,
    class_map,
    graph_distances,
    ontology_table,
    read_descriptions,
)

# unordered pairs of the 527 classes by distance 1 .. 21
PAIRS = [378, 2267, 4459, 10658, 14473, 15421, 18700, 18878, 15484, 12212, 8925, 5997, 4077, 2846, 1634, 944,
         613, 421, 162, 48, 4]
ROOTS = ["Human sounds", "Animal", "Music", "Natural sounds", "Sounds of things", "Source-ambiguous sounds",
         "Channel, environment and background"]


@pytest.fixture(scope="module")
def meta(shared):
    return shared / "data" / "audioset_meta"


def search(neighbours, start):
    distance, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for there in neighbours[here]:
            if there not in distance:
                distance[there] = distance[here] + 1
                queue.append(there)
    return distance


# the shipped table

def test_shipped_table_is_made_from_audiosets_files(meta):
    shipped = (files("spa_lib") / "assets" / "audioset_ontology.csv").read_bytes()
    assert shipped == ontology_table(meta / "ontology.json", meta / "class_labels_indices.csv").encode()


def test_shipped_table_has_no_description_sentences(meta):
    shipped = (files("spa_lib") / "assets" / "audioset_ontology.csv").read_text(encoding="utf-8")
    assert shipped.splitlines()[0] == "mid,name,children,restrictions,index"
    sentences = read_descriptions(meta / "ontology.json").values()
    assert not [s for s in sentences if len(s) > 30 and s in shipped]


def test_classes_are_audiosets_in_its_order(ontology, meta):
    import csv

    with open(meta / "class_labels_indices.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert list(ontology.mids) == [r["mid"] for r in rows]
    assert list(ontology.names) == [r["display_name"] for r in rows]


# distances

def test_distance_histogram(ontology):
    D = ontology.distances
    assert D.dtype == np.int8 and D.shape == (527, 527) and (D == D.T).all() and (np.diag(D) == 0).all()
    assert np.bincount(D[np.triu_indices(527, 1)]).tolist() == [0, *PAIRS]
    assert abs(D[np.triu_indices(527, 1)].mean() - 7.8926631) < 5e-8
    assert D.max() == 21 and list(ontology.levels) == list(range(22))
    assert [D[ontology.index("Speech"), ontology.index(n)] for n in ("Animal", "Dog", "Bark")] == [9, 11, 12]


def test_distances_against_two_independent_searches(ontology):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    neighbours = {m: ontology.parents(m) + ontology.children(m) for m in ontology.nodes}
    plain = np.array([[d[m] for m in ontology.mids] for d in (search(neighbours, m) for m in ontology.mids)])
    assert (ontology.distances == plain).all()
    at = {m: i for i, m in enumerate(ontology.nodes)}
    a, b = zip(*[(at[m], at[c]) for m in ontology.nodes for c in ontology.children(m)])
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(632, 632)).tocsr()
    full = shortest_path(graph, directed=False, unweighted=True)
    rows = [at[m] for m in ontology.mids]
    assert (ontology.distances == full[np.ix_(rows, rows)]).all() and full.max() == 21


def test_no_artificial_root(ontology):
    tops = [m for m in ontology.nodes if not ontology.parents(m)]
    assert [ontology.name(m) for m in tops] == ROOTS and len(ontology.nodes) == 632
    neighbours = {m: ontology.parents(m) + ontology.children(m) for m in ontology.nodes}
    for m in tops:
        neighbours[m] += ("top",)
    neighbours["top"] = tuple(tops)
    rooted = np.array([[d[m] for m in ontology.mids] for d in (search(neighbours, m) for m in ontology.mids)])
    assert round((rooted != ontology.distances).mean(), 2) == 0.54 and (rooted <= ontology.distances).all()


def test_distances_do_not_take_long():
    start = time.process_time()
    assert Ontology.audioset().distances.shape == (527, 527)
    assert time.process_time() - start < 5  # about 0.05 s


def graphs(n):
    """Cases (n, extra edges, a node below for each but the first) of n nodes."""
    node = st.integers(0, n - 1)
    extra = st.lists(st.tuples(node, node), max_size=20)
    return st.tuples(st.just(n), extra, st.lists(st.integers(0, 10**6), min_size=n - 1, max_size=n - 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 14).flatmap(graphs))
def test_graph_distances_on_random_connected_graphs(case):
    n, extra, up = case
    edges = [(i + 1, u % (i + 1)) for i, u in enumerate(up)] + extra
    neighbours = {i: [b for a, b in edges if a == i] + [a for a, b in edges if b == i] for i in range(n)}
    expected = [[search(neighbours, i)[j] for j in range(n)] for i in range(n)]
    d = graph_distances(edges, n)
    assert d.tolist() == expected
    assert (d[:, :, None] <= d[:, None, :] + d.T[None]).all()  # triangle: d(a, b) <= d(a, c) + d(c, b)


def test_a_hierarchy_deeper_than_int8():
    chain = Ontology.from_edges([(f"n{i}", f"n{i + 1}") for i in range(200)])
    assert chain.distances.dtype == np.int16 and chain.distances[0, 200] == 200


# paths and ties

def all_paths(ontology, mid):
    above = ontology.parents(mid)
    return [p + (mid,) for q in above for p in all_paths(ontology, q)] if above else [(mid,)]


def test_counts_of_ties(ontology):
    paths = {m: all_paths(ontology, m) for m in ontology.mids}
    shortest = {m: [p for p in ps if len(p) == min(map(len, ps))] for m, ps in paths.items()}
    tied = [m for m in ontology.mids if len(shortest[m]) > 1]
    assert sum(len(ontology.parents(m)) > 1 for m in ontology.nodes) == 38
    assert sum(len(ps) > 1 for ps in paths.values()) == 46 and len(tied) == 15
    assert sum(len({p[0] for p in shortest[m]}) > 1 for m in tied) == 9
    assert Counter(len(ontology.roots(m)) for m in ontology.mids) == {1: 498, 2: 27, 3: 2}
    position = {m: i for i, m in enumerate(ontology.nodes)}
    for m in ontology.mids:
        assert ontology.path(m) == min(shortest[m], key=lambda p: [position[n] for n in p])
        assert set(ontology.ancestors(m)) == {n for p in paths[m] for n in p[:-1]}
        assert ontology.depth(m) == len(shortest[m][0]) - 1
        assert set(ontology.roots(m)) == {p[0] for p in paths[m]} and ontology.branch(m) in ontology.roots(m)


def test_the_papers_example_and_the_tied_chant(ontology):
    speech = "Human sounds > Human voice > Speech > Male speech, man speaking"
    assert ontology.describe("Male speech, man speaking") == speech
    assert ontology.describe("Chant") == "Human sounds > Human voice > Singing > Chant"
    assert [ontology.name(m) for m in ontology.roots("Chant")] == ["Human sounds", "Music"]


def test_branch_sizes(ontology):
    sizes = Counter(ontology.name(ontology.branch(m)) for m in ontology.mids)
    assert [sizes[r] for r in ROOTS] == [71, 60, 139, 17, 170, 49, 21]


# texts

def test_descriptions(ontology):
    assert ontology.descriptions("direct") == list(ontology.names)
    assert ontology.descriptions("prompt")[0] == "the sound of Speech"
    for method in ("direct", "prompt", "concat"):
        assert len(set(ontology.descriptions(method))) == 527
    assert METHODS == ("direct", "prompt", "desc", "concat")


def test_desc_reads_audiosets_file_from_each_source(ontology, meta, monkeypatch, tmp_path):
    path = meta / "ontology.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == ONTOLOGY_SHA256
    given = ontology.descriptions("desc", path)
    assert len(given) == 527 and all(given) and given[1] == ontology.describe("/m/05zppz", "desc", str(path))
    monkeypatch.setenv("SPA_LIB_ONTOLOGY_JSON", str(path))
    assert ontology.descriptions("desc") == given
    monkeypatch.delenv("SPA_LIB_ONTOLOGY_JSON")
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ONTOLOGY_URL", path.as_uri())
    assert ontology.descriptions("desc") == given and (tmp_path / "ontology" / "ontology.json").exists()


def test_desc_without_the_file_is_one_clear_error(ontology, monkeypatch, tmp_path):
    monkeypatch.delenv("SPA_LIB_ONTOLOGY_JSON", raising=False)
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ONTOLOGY_URL", "http://127.0.0.1:9/ontology.json")
    with pytest.raises(OSError, match="not shipped.*SPA_LIB_ONTOLOGY_JSON"):
        ontology.descriptions("desc")
    monkeypatch.setenv("SPA_LIB_ONTOLOGY_JSON", str(tmp_path / "absent.json"))
    with pytest.raises(FileNotFoundError, match="absent.json"):
        ontology.describe("Speech", "desc")


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"id": "x"}]', "not json", '{"a": 1}'])
def test_another_file_in_its_place(ontology, tmp_path, text):
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(ValueError, match="ontology.json|no description"):
        ontology.describe("Speech", "desc", tmp_path / "o.json")


def test_a_download_with_other_bytes_is_refused(ontology, monkeypatch, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"id": "/m/09x0r", "description": "changed"}]))
    monkeypatch.delenv("SPA_LIB_ONTOLOGY_JSON", raising=False)
    monkeypatch.setenv("SPA_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "ONTOLOGY_URL", other.as_uri())
    with pytest.raises(ValueError, match="sha256"):
        ontology.describe("Speech", "desc")


# classes, subsets, other hierarchies

def test_index(ontology):
    for i, (mid, name) in enumerate(zip(ontology.mids, ontology.names)):
        assert ontology.index(mid) == i and ontology.index(name) == i
    refused = {"Speach": "Did you mean 'Speech'", "/m/09x0": "Did you mean '/m/09x0r'",
               "Human voice": "not among its 527", "": "unknown class"}
    for wrong, message in refused.items():
        with pytest.raises(ValueError, match=message):
            ontology.index(wrong)


def test_subset_keeps_distances_and_levels(ontology):
    chosen = ontology.mids[500:100:-7]
    few = ontology.subset(chosen)
    at = [ontology.index(m) for m in chosen]
    assert few.mids == chosen and len(few) == len(chosen) and few.nodes == ontology.nodes
    assert (few.distances == ontology.distances[np.ix_(at, at)]).all() and few.distances.dtype == np.int8
    assert few.levels == range(22) and few.subset(chosen[:3]).levels == range(22)
    assert few.descriptions() == [ontology.describe(m) for m in chosen]
    assert len(ontology) == 527 and ontology.distances.shape == (527, 527)
    with pytest.raises(ValueError, match="no classes"):
        ontology.subset([])
    with pytest.raises(ValueError, match="twice: Dog"):
        ontology.subset(["Dog", "/m/0bt9lr"])


def test_callers_do_not_share_arrays(ontology):
    other = Ontology.audioset()
    other.distances[0, 1] = 99
    assert ontology.distances[0, 1] == 1


@pytest.mark.parametrize("edges, names, classes, message", [
    ([("a", "b"), ("b", "c"), ("c", "a")], None, None, "cycle: . > . > . > ."),
    ([("a", "a")], None, None, "cycle"),
    ([("a", "b"), ("c", "d")], None, None, "2 parts"),
    ([("a", "b")], {"a": "A", "b": "B", "z": "Z"}, None, "2 parts"),
    ([("a", "b")], {"a": "A"}, None, "unknown node in the edge .*'b'"),
    ([("a", "b")], {"a": "A", "b": "A"}, None, "two nodes are called 'A'"),
    ([("a", "b")], None, ["a", "x"], "unknown sound 'x'"),
    ([("a", "b")], None, ["a", "a"], "twice: a"),
    ([("a", "b")], None, [], "no classes"),
    ([], None, None, "no classes"),
])
def test_from_edges_refuses(edges, names, classes, message):
    with pytest.raises(ValueError, match=message):
        Ontology.from_edges(edges, names, classes)


def test_from_edges():
    edges = iter([("a", "b"), ("a", "b"), ("a", "c")])
    own = Ontology.from_edges(edges, {"a": "All", "b": "Bee", "c": "Sea"}, ["Sea", "b"])
    assert own.mids == ("c", "b") and own.distances.tolist() == [[0, 2], [2, 0]] and own.levels == range(3)
    assert own.describe("c") == "All > Sea" and own.children("All") == ("b", "c")


def test_audioset_through_from_edges_is_the_same(ontology):
    edges = [(m, c) for m in ontology.nodes for c in ontology.children(m)]
    again = Ontology.from_edges(edges, {m: ontology.name(m) for m in ontology.nodes}, ontology.mids)
    assert (again.distances == ontology.distances).all() and again.descriptions() == ontology.descriptions()


def test_names_do_for_mids(ontology):
    methods = (
        ontology.path, ontology.ancestors, ontology.children, ontology.parents, ontology.roots,
        ontology.branch, ontology.depth, ontology.name, ontology.describe,
    )
    for ask in methods:
        assert ask("Dog") == ask("/m/0bt9lr")


# other data sets

def test_class_map_is_the_given_one(ontology, shared):
    import pandas as pd

    given_map = pd.read_csv(shared / "data" / "class_map.csv")
    for name, dataset in (("ESC-50", "esc50"), ("UrbanSound8K", "urbansound8k")):
        rows = given_map[given_map.dataset == name]
        assert class_map(dataset) == [(r.category, r.mid, r.match) for r in rows.itertuples()]
        for r in rows.itertuples():
            above = set(ontology.ancestors(r.mid)) & set(ontology.mids)
            stated = set(str(r.ancestor_mids_in_527).split(";")) - {"nan"}
            assert above == stated, r.category
    with pytest.raises(ValueError, match="Did you mean 'esc50'"):
        class_map("esc-50")


# hierarchies from files

def test_leaves_are_taken_off_without_a_trace():
    assert graph_distances([], 1).tolist() == [[0]]
    assert graph_distances([(0, 1), (1, 0), (1, 1)], 2).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="not connected"):
        graph_distances([(0, 1), (2, 3)], 4)


def test_ten_thousand_nodes_do_not_take_long():
    start = time.process_time()
    own = Ontology.from_edges([(f"n{(i - 1)//3}", f"n{i}") for i in range(1, 10_000)])
    assert own.distances.shape == (10_000, 10_000) and own.distances.dtype == np.int8
    assert own.distances[0].max() == own.depth("n9999") and own.levels[-1] == own.distances.max()
    assert time.process_time() - start < 30  # about 3 s; names alone once took a minute


def test_root_joins_the_parts():
    edges = [("b", "hen"), ("c", "cow")]
    own = Ontology.from_edges(edges, root="farm")
    assert own.mids == ("b", "hen", "c", "cow") and own.distances[1].tolist() == [1, 0, 3, 4]
    assert own.describe("hen") == "farm > b > hen" and own.roots("cow") == ("farm",)
    names = {"b": "Birds", "hen": "Hen", "c": "Cattle", "cow": "Cow"}
    named = Ontology.from_edges(edges, names, ["Hen", "farm"], root="farm")
    assert named.names == ("Hen", "farm") and named.distances.tolist() == [[0, 2], [2, 0]]
    with pytest.raises(ValueError, match="root 'hen' is a node already"):
        Ontology.from_edges(edges, root="hen")


NODES = "\ufeffid , name,parent,class\nf,Farm,,\nb,Birds,f,\nh,Hen,b,1\nd,Duck,b; w,yes\nw,Water,f,0\n"


def test_from_csv_with_a_node_a_row(tmp_path):
    path = tmp_path / "nodes.csv"
    path.write_text(NODES, encoding="utf-8")
    own = Ontology.from_csv(path)
    assert own.names == ("Hen", "Duck") and own.mids == ("h", "d") and own.parents("Duck") == ("b", "w")
    assert own.descriptions() == ["Farm > Birds > Hen", "Farm > Birds > Duck"]
    assert Ontology.from_csv(path, classes=["Duck", "w"]).names == ("Duck", "Water")
    (tmp_path / "tabs.tsv").write_text(NODES.replace(",", "\t").replace("parent", "above"), encoding="utf-8")
    tabs = Ontology.from_csv(tmp_path / "tabs.tsv", columns={"parent": "above"})
    assert tabs.descriptions() == own.descriptions()


def test_from_csv_with_an_edge_a_row(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("child,parent\nhen,birds\ncow,cattle\n")
    own = Ontology.from_csv(path, root="farm", classes=["cow", "hen"])
    assert own.distances.tolist() == [[0, 4], [4, 0]]
    assert Ontology.from_csv(path, root="farm").mids == ("birds", "hen", "cattle", "cow")


@pytest.mark.parametrize("text, message", [
    ("id,parent\na,\nb,aa\n", "row 3: 'aa'. Did you mean 'a'"),
    ("id,parent\na,\na,\n", "row 3: the id 'a' is twice"),
    ("id,parent\n,a\n", "row 2: the id '' is empty"),
    ("parent,child\na,\n", "row 2: a parent and a child are needed"),
    ("mid,parent\na,\n", "has the columns mid, parent, but needs parent and child, or id and parent"),
    ("", "has the columns none"),
    ("id,parent\na,b\nb,a\n", "own.csv: the hierarchy has a cycle"),
    ("id,parent\na,\nb,\n", "own.csv: the hierarchy falls into 2 parts.*above all top nodes"),
    ("id,parent,name\na,,Hen\nb,a,Hen\n", "own.csv: two nodes are called 'Hen'"),
])
def test_from_csv_names_the_row(tmp_path, text, message):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Ontology.from_csv(path)
    assert "own.csv" in str(caught.value)


def test_from_csv_refuses_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no csv"):
        Ontology.from_csv(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text(NODES, encoding="utf-8")
    with pytest.raises(ValueError, match="unknown column 'parents'. Did you mean 'parent'"):
        Ontology.from_csv(tmp_path / "a.csv", columns={"parents": "up"})


OBO = """format-version: 1.2
ontology: farm

[Term]
id: F:0
name: Farm

[Term]
id: F:1
name: Birds
is_a: F:0 ! Farm

[Term]
id: F:2
name: Hen
is_a: F:1 ! Birds
relationship: lives_in F:4

[Term]
id: F:3
name: Dodo
is_obsolete: true

[Term]
id: F:4
name: Barn
relationship: part_of F:0

[Typedef]
id: part_of
name: part of
"""


def test_from_obo(tmp_path):
    pytest.importorskip("obonet")
    path = tmp_path / "farm.obo"
    path.write_text(OBO)
    own = Ontology.from_obo(path, relations=("is_a", "part_of"))
    assert own.names == ("Farm", "Birds", "Hen", "Barn") and own.parents("Hen") == ("F:1",)
    assert Ontology.from_obo(path, ["Hen", "F:1"], ("is_a", "part_of")).distances.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="farm.obo: the hierarchy falls into 2 parts"):
        Ontology.from_obo(path)
    assert Ontology.from_obo(path, root="All").children("All") == ("F:0", "F:4")
    with pytest.raises(ValueError, match="unknown relation 'isa'.*Choose one of: is_a, lives_in, part_of"):
        Ontology.from_obo(path, relations=["isa"])
    with pytest.raises(FileNotFoundError, match="no OBO file"):
        Ontology.from_obo(tmp_path / "none.obo")


def test_from_obo_names_the_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "obonet", None)
    (tmp_path / "farm.obo").write_text(OBO)
    with pytest.raises(ImportError, match="pip install 'spa_lib.metrics.'"):
        Ontology.from_obo(tmp_path / "farm.obo")
