"""`Run.score`: the same bits from a folder, in memory, in groups of blocks and from what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.run.fixtures import PASSES, QUERIES, CopyRun, write_rows
from whence.base.errors import WhenceError
from whence.base.files import read_json
from whence.curvature.collect import collect_hidden
from whence.data.examples import Examples
from whence.measure.measurement import LogOdds
from whence.methods.catalogue import standard_calls
from whence.models.load import load_model
from whence.run.run import Run
from whence.run.scored import Scored
from whence.run.stored import read_scored, slug
from whence.scores.published import read_scores
from whence.sweep import sweep as sweep_room
from whence.sweep.gram import GradientStore
from whence.sweep.precision import Precision
from whence.sweep.sweep import Layout

ALL = [str(call) for call in standard_calls()]
FEW = ["gradient-dot", "fisher(damping=0.1)", "repsim", "bm25"]


def assert_same(one: Scored, other: Scored) -> None:
    """Identical bits of every score, and of what was measured."""
    assert list(one.scores) == list(other.scores)
    for method, scores in one.scores.items():
        np.testing.assert_array_equal(scores.values, other[method].values, err_msg=method)
        assert scores.facts == other[method].facts
    for name, values in one.measured.items():
        np.testing.assert_array_equal(values, other.measured[name])


class Sweeps(list[tuple[str, int, int]]):
    """Every pass over data, as (what, rows, blocks)."""

    def over(self, rows: int) -> int:
        return sum(swept == rows for _, swept, _ in self)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    """Counts passes, wherever `sweep` is called from."""
    seen = Sweeps()
    real = sweep_room.sweep

    def counted(model: Any, examples: Examples, blocks: Any = (), *rest: Any, **options: Any) -> Any:
        seen.append((options.get("what", ""), len(examples), len(blocks)))
        return real(model, examples, blocks, *rest, **options)

    for module in PASSES:
        monkeypatch.setattr(module, counted)
    return seen


@pytest.fixture(scope="session")
def reference(in_memory: Run, queries: Examples) -> Scored:
    """Every standard method on the six queries, in memory, after one sweep over all blocks together."""
    return Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(queries, "all")


def test_all_methods_in_memory_share_their_sweeps(in_memory: Run, queries: Examples, sweeps: Sweeps) -> None:
    scored = Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(queries, "all")
    assert list(scored.scores) == ALL
    for method, scores in scored.scores.items():
        assert scores.values.shape == (6, 24) and np.isfinite(scores.values).all() and scores.method == method
        assert np.ptp(scores.values) > 0, method
    assert [(rows, blocks) for _, rows, blocks in sweeps[:4]] == [(6, 8), (24, 8), (6, 0), (24, 0)]  # tuned, then base
    assert [what for what, _, _ in sweeps[4:]] == [
        "gradients of the queries", "diagonal: eigenvalues of 24 rows", "kfac: covariances of 24 rows",
        "shampoo: covariances of 24 rows", "eshampoo: eigenvalues of 24 rows", "ekfac: eigenvalues of 24 rows",
        "scores of the training rows"]  # each fit once, for all dampings; scores of all solvers together
    draws = scored["ekfac(damping=0.1)"].facts["fit"]["draws"]
    assert draws > 1 and {(rows, blocks) for _, rows, blocks in sweeps[5:-1]} == {(24 * draws, 8)}
    assert sweeps[-1][1:] == (24, 8) and scored.accuracy == np.mean(scored.measured["wrong_tokens"] == 0)
    table = scored.table(resamples=100)
    assert list(table.rows) == ALL and table.n_train == 24


def test_a_folder_gives_the_same_bits_and_keeps_them(copy_run: CopyRun, queries: Examples, reference: Scored) -> None:
    run = Run.load(copy_run("lora"))
    scored = run.score(queries, "all", name="things")
    assert_same(scored, reference)
    place = run.folder / "scores" / "things"
    for method in ALL:
        stored = read_scores(place / slug(method))
        assert stored.method == method
        np.testing.assert_array_equal(stored.values, reference[method].values)
    examples, stored_scores = read_scored(place)
    assert examples.content_hash == queries.content_hash and examples.groups == queries.groups
    assert list(stored_scores) == ALL
    assert json.loads((place / "about.json").read_text())["timings"]["sweep_seconds"] > 0
    assert not list(run.folder.rglob("*.part"))


def test_the_second_call_sweeps_nothing_and_gives_the_same_bits(copy_run: CopyRun, queries: Examples,
                                                                reference: Scored, sweeps: Sweeps) -> None:
    folder = copy_run("lora")
    Run.load(folder).score(queries, ["gradient-dot", "repsim"])
    assert [(rows, blocks) for _, rows, blocks in sweeps] == [(6, 0), (24, 0), (6, 8), (24, 8)]
    Run.load(folder).score(queries, "fisher")
    assert sweeps.over(24) == 3
    sweeps.clear()
    again = Run.load(folder).score(queries, FEW)  # another process would find the same
    assert sweeps == []
    for method in FEW:
        np.testing.assert_array_equal(again[method].values, reference[method].values)
    assert again.accuracy == reference.accuracy
    Run.load(folder).score(queries, "repsim(token=mean)")
    assert [(rows, blocks) for _, rows, blocks in sweeps] == [(6, 0), (24, 0)]  # what is new, and forward only


def test_representations_are_the_same_alone_and_along_with_gradients(in_memory: Run, queries: Examples,
                                                                     reference: Scored) -> None:
    alone = Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(queries, ["repsim", "bm25"])
    np.testing.assert_array_equal(alone["repsim"].values, reference["repsim"].values)
    for name, values in reference.measured.items():
        np.testing.assert_array_equal(alone.measured[name], values)


def test_text_methods_alone_look_at_the_queries_only(in_memory: Run, queries: Examples, sweeps: Sweeps) -> None:
    Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(queries, ["bm25", "random", "tfidf"])
    assert [(rows, blocks) for _, rows, blocks in sweeps] == [(6, 0)]


@pytest.mark.parametrize("where", ["folder", "memory"])
def test_new_queries_use_the_training_rows_again(where: str, copy_run: CopyRun, in_memory: Run, queries: Examples,
                                                 sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    few = queries.select([4, 1])
    fresh = Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(few, FEW)
    run = Run.load(copy_run("lora")) if where == "folder" else Run(in_memory.model, in_memory.tokenizer,
                                                                  in_memory.train)
    run.score(queries, FEW, name="six")
    made: list[int] = []

    def counted(blocks: Any, rows: int, *rest: Any) -> GradientStore:
        made.append(rows)
        return GradientStore(blocks, rows, *rest)

    monkeypatch.setattr("whence.curvature.collect.GradientStore", counted)
    assert_same(run.score(few, FEW, name="two"), fresh)
    assert made == [2]  # the queries' gradients; those of the training rows are multiplied and not kept

def smallest_memory(run: Run, rows: int) -> int:
    """Bytes that hold the gradients of the largest block only."""
    return max(block.parameters for block in run.subject.blocks) * 4 * rows


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_little_memory_means_several_groups_of_blocks_and_the_same_bits(tune: str, copy_run: CopyRun,
                                                                       request: pytest.FixtureRequest,
                                                                       sweeps: Sweeps) -> None:
    stored = Run.load(request.getfixturevalue(f"{tune}_folder"))
    few = stored.encode(QUERIES[:3])
    whole = Run(stored.model, stored.tokenizer, stored.train).score(few, FEW)
    assert [blocks for _, rows, blocks in sweeps if rows == 24] == [len(stored.subject.blocks)] * 2  # grams; products
    sweeps.clear()
    memory = smallest_memory(stored, 24 + 3)
    tight = Run.load(copy_run(tune), memory=memory)
    assert_same(tight.score(few, FEW), whole)
    groups = [blocks for what, rows, blocks in sweeps if rows == 24 and what == "sweep over the training data"]
    assert len(groups) >= 6 and sum(groups) == len(stored.subject.blocks)
    with pytest.raises(WhenceError, match=r"the gradients of 27 rows at block .* take"):
        Run(stored.model, stored.tokenizer, stored.train, memory=memory - 1).score(few, FEW)


def test_another_layout_is_swept_anew_and_agrees(copy_run: CopyRun, queries: Examples, reference: Scored,
                                                 sweeps: Sweeps) -> None:
    folder = copy_run("lora")
    Run.load(folder).score(queries, FEW)
    sweeps.clear()
    scored = Run.load(folder, layout=Layout(batch_size=5, side="left")).score(queries, FEW)
    assert sweeps.over(24) == 2
    for method in FEW:
        values = reference[method].values
        np.testing.assert_allclose(scored[method].values, values, atol=1e-4 * np.abs(values).max())
    sweeps.clear()
    Run.load(folder, blocks=["layers.1"]).score(queries, "gradient-dot")
    assert [blocks for _, rows, blocks in sweeps if rows == 24] == [4]
    sweeps.clear()
    odds = Run.load(folder, measurement=LogOdds()).score(queries, "gradient-dot")
    assert sweeps.over(6) == 1 and np.abs(odds.measured["values"] - reference.measured["values"]).max() > 1e-3


def test_weights_changed_in_place_are_never_answered_from_what_was_stored(lora_folder: Path,
                                                                         queries: Examples) -> None:
    loaded = Run.load(lora_folder)
    run = Run(loaded.model, loaded.tokenizer, loaded.train)
    before = run.score(queries, "gradient-dot")["gradient-dot"].values
    with torch.no_grad():
        run.subject.blocks[0].module.weight.mul_(2)
    after = run.score(queries, "gradient-dot")["gradient-dot"].values
    assert np.abs(after - before).max() > 1e-6
    with torch.no_grad():
        run.subject.blocks[0].module.weight.div_(2)
    layer = next(module for module in run.model.modules() if hasattr(module, "scaling") and hasattr(module, "lora_A"))
    layer.scaling["default"] *= 2
    assert np.abs(run.score(queries, "gradient-dot")["gradient-dot"].values - before).max() > 1e-6
    layer.scaling["default"] /= 2
    np.testing.assert_array_equal(run.score(queries, "gradient-dot")["gradient-dot"].values, before)


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    yield
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_name_holds_one_set_of_queries(copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    run.score(queries, "bm25", name="mine")
    with nothing_written(run.folder), pytest.raises(
            WhenceError, match=r"scores/mine: holds the scores of other queries; choose another name \(--name\)"):
        run.score(queries.select([0, 1]), "bm25", name="mine")
    run.score(queries.select([0, 1]), "bm25", name="others")
    assert run.score(queries, "random", name="mine")["random"].values.shape == (6, 24)


@pytest.mark.parametrize("name", ["", ".", "..", "../mine", "a/b", "/tmp/x", ".hidden"])
def test_a_name_is_that_of_a_folder(name: str, copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    with nothing_written(run.folder), pytest.raises(WhenceError, match="expected the name of a folder"):
        run.score(queries, "bm25", name=name)


def test_methods_asked_for_later_stand_beside_those_before(copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    run.score(queries, ["bm25", "repsim"])
    run.score(queries, ["random", "bm25"])
    place = run.folder / "scores" / "queries"
    assert list(read_scored(place)[1]) == ["bm25", "repsim", "random"]
    Run.load(run.folder, layout=Layout(side="left")).score(queries, ["repsim"])
    assert list(read_scored(place)[1]) == ["repsim"]  # nothing of another sweep among them


def test_labels_put_right_are_kept(copy_run: CopyRun, in_memory: Run) -> None:
    run = Run.load(copy_run("lora"))
    wrong = [{**row, "group": "tool"} for row in QUERIES]
    run.score(run.encode(wrong), "bm25")
    scored = run.score(run.encode(QUERIES), "bm25")
    stored, _ = read_scored(run.folder / "scores" / "queries")
    assert stored.groups == scored.queries.groups == tuple(row["group"] for row in QUERIES)


def test_every_method_has_a_folder_name_of_its_own() -> None:
    names = [slug(method) for method in (*ALL, "repsim(layer=1)", "repsim(layer=-1)", "fisher(damping=1e-05)")]
    assert len(set(names)) == len(names) and all(Path(name).name == name and " " not in name for name in names)
    assert slug("fisher(damping=0.1, scope=model)") == "fisher-damping=0.1-scope=model"


@pytest.mark.parametrize(("methods", "message"), [
    ("fisherr", "did you mean 'fisher'"),
    ("fisher(dampng=1)", r"did you mean 'damping'"),
    (["bm25", "repsim(model=tunde)"], r"repsim\(model=tunde\)': model=tunde: expected tuned or base"),
    ("repsim(layer=last)", "layer=last; expected a whole number"),
    ("repsim(layer=7)", "layer 7 does not exist: this model has 2 layers"),
    ("fisher(damping=0.0)", "damping=0.0: expected a positive number"),
    ("fisher(scope=layer)", "scope=layer: expected block or model"),
    ([], "no method to score with"),
])
def test_a_mistaken_method_leaves_no_scores(methods: Any, message: str, copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    with pytest.raises(WhenceError, match=message):
        run.score(queries, methods)
    assert not list(run.folder.rglob("*.part"))
    assert not (run.folder / "scores" / "queries" / "about.json").exists()


def test_queries_that_the_model_cannot_run_on_are_refused(copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    with nothing_written(run.folder):
        with pytest.raises(WhenceError, match="there are no queries"):
            run.score(queries.select([]), "bm25")
        with pytest.raises(WhenceError, match=r"row 1 \(id '1'\): \d+ tokens, but the model has 48 positions"):
            run.score([{"prompt": "a", "completion": "b"}, {"prompt": "long " * 60, "completion": "b"}], "fisher")
        with pytest.raises(WhenceError, match="is empty; expected at least one character"):
            run.trace("a prompt", "")
        with pytest.raises(WhenceError, match="tokens, but the model has 48 positions"):
            run.trace("long " * 60, "b")


def test_rows_without_groups_have_scores_and_no_table(in_memory: Run, queries: Examples, tmp_path: Path) -> None:
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.train)
    bare = run.encode([{key: row[key] for key in ("prompt", "completion")} for row in QUERIES])
    scored = run.score(bare, FEW)
    assert not scored.labelled
    with pytest.raises(WhenceError, match="6 of 6 queries have no group"):
        scored.table()
    mixed = run.encode([*QUERIES[:4], *({**row, "group": None} for row in QUERIES[4:])])
    with pytest.raises(WhenceError, match="2 of 6 queries have no group"):
        run.score(mixed, FEW).table()
    unlabelled = Run(run.model, run.tokenizer, run.encode([{"prompt": "a", "completion": "b"}])).score(queries, "bm25")
    with pytest.raises(WhenceError, match="1 of 1 training rows have no group"):
        unlabelled.table()


def test_a_query_label_that_no_training_row_has_is_named(in_memory: Run) -> None:
    scored = in_memory.score(in_memory.encode([{**QUERIES[0], "group": "fish"}]), "bm25")
    with pytest.raises(WhenceError, match="query row 0 has label 'fish'"):
        scored.table()


def test_queries_come_from_a_file_with_columns_of_other_names(in_memory: Run, tmp_path: Path,
                                                              reference: Scored) -> None:
    names = {"prompt": "question", "completion": "answer", "group": "label", "id": "name"}
    rows = [{names[key]: value for key, value in row.items()} for row in QUERIES]
    path = write_rows(tmp_path / "q.jsonl", rows)
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.train)
    scored = run.score(str(path), FEW, columns=names)
    assert scored.queries.groups == reference.queries.groups and scored.queries.ids == reference.queries.ids
    np.testing.assert_array_equal(scored["repsim"].values, reference["repsim"].values)


def test_shares_of_blocks_add_up_to_the_scores(reference: Scored) -> None:
    for method in ("gradient-dot", "fisher(damping=1.0)", "datainf(damping=0.1)"):
        shares = reference.block_scores(method)
        assert shares is not None
        parts = shares(2, [0, 5, 23])
        assert parts.shape == (3, 8)
        np.testing.assert_allclose(parts.sum(axis=1), reference[method].values[2, [0, 5, 23]], rtol=1e-9)
    for method in ("gradient-cosine", "bm25", "fisher(damping=1.0, scope=model)"):
        assert reference.block_scores(method) is None


def base_states(run: Run, base: Path, examples: Examples) -> np.ndarray:
    model = load_model(base, dtype=torch.float32, device=run.device).model
    return collect_hidden(model, examples, [(-1, "last_prompt")], run.subject.pad_id).get(-1, "last_prompt")


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_the_base_is_the_model_before_the_fine_tune(tune: str, request: pytest.FixtureRequest, base_folder: Path,
                                                    copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run(tune))
    scored = run.score(queries, ["repsim(model=base)", "repsim"])
    of_queries, of_train = scored.evidence.hidden["base", -1, "last_prompt"]
    np.testing.assert_array_equal(of_queries, base_states(run, base_folder, queries))
    np.testing.assert_array_equal(of_train, base_states(run, base_folder, run.train))
    tuned, _ = scored.evidence.hidden["tuned", -1, "last_prompt"]
    assert np.abs(tuned - of_queries).max() > 1e-3
    again = run.score(queries, "gradient-dot")  # the adapter is on again
    fresh = Run.load(request.getfixturevalue(f"{tune}_folder"))
    expected = Run(fresh.model, fresh.tokenizer, fresh.train).score(queries, "gradient-dot")
    np.testing.assert_array_equal(again["gradient-dot"].values, expected["gradient-dot"].values)


def test_a_base_that_is_not_known_or_not_the_same_is_refused(full_folder: Path, copy_run: CopyRun, other_base: Path,
                                                             queries: Examples) -> None:
    full = Run.load(full_folder)
    bare = Run(full.model, full.tokenizer, full.train)
    assert not bare.has_base
    with pytest.raises(WhenceError, match=r"the base model of this run is not known; give Run\(base=PATH\)"):
        bare.score(queries, "repsim(model=base)")
    run = Run.load(copy_run("full"), base=other_base)
    with pytest.raises(WhenceError, match="the base model is not the one this run was made with"):
        run.score(queries, "repsim(model=base)")
    assert not (run.folder / "scores").exists()
    run.score(queries, "repsim")


def test_what_is_stored_says_what_it_was_made_from(copy_run: CopyRun, queries: Examples) -> None:
    run = Run.load(copy_run("lora"))
    run.score(queries, "gradient-dot")
    about = read_json(run.folder / "scores" / "queries" / "about.json")
    assert about["train"] == run.train.content_hash and about["queries"] == queries.content_hash
    assert about["blocks"] == [block.name for block in run.subject.blocks]
    assert about["methods"] == ["gradient-dot"] and about["peak_memory"]["resident_bytes"] > 0


def test_a_bf16_pass_is_checked_and_kept_apart(copy_run: CopyRun, queries: Examples, reference: Scored,
                                               sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_run("lora")
    Run.load(folder).score(queries, "gradient-dot")
    sweeps.clear()
    run = Run.load(folder, layout=Layout(dtype="bf16"))
    scored = run.score(queries, "gradient-dot")
    assert sweeps.over(24) == 1  # what was stored in float32 is not taken for it
    told = run.facts()["precision"]
    assert told["enough"] and 0 < told["gradient"] < 0.05 and told["rows"] > 1
    both = np.corrcoef(scored["gradient-dot"].values.ravel(), reference["gradient-dot"].values.ravel())[0, 1]
    assert both > 0.99 and not np.array_equal(scored["gradient-dot"].values, reference["gradient-dot"].values)
    assert "precision" not in Run.load(folder).facts()
    monkeypatch.setattr("whence.run.subject.check_precision", lambda *_: Precision(3, 0.1, 0.06, 0.5, "x", 0.9))
    with pytest.warns(UserWarning, match=r"gradients off by 6.0% in the median.*use float32"):
        Run.load(folder, layout=Layout(dtype="bf16")).score(queries, "gradient-dot")
    monkeypatch.setattr("whence.run.subject.free_memory", lambda _: -1)
    with pytest.warns(UserWarning, match="were not checked against float32"):
        Run.load(folder, layout=Layout(dtype="bf16")).score(queries, "gradient-dot")
