"""The table of the authors' cached scores, against literal loops, and against their own metric code's numbers."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import pearsonr, spearmanr

from whence.base.errors import WhenceError
from whence.study.li2024.published import RECOMPUTED, Published, differences, read_published, z_scored

TRAIN = list("aaabbbbcccc")  # 11 rows of 3 classes, unbalanced: Cover is cut at 3
QUERIES = list("abcabca")


def write_labels(path: Path, labels: list[str], **more: str) -> None:
    path.write_text("".join(json.dumps(more | {"variation": label}) + "\n" for label in labels))


def write_scores(path: Path, as_published: np.ndarray) -> None:
    """As pandas with `index_label=False`: the header lacks a name for the index."""
    text = ",".join(map(str, range(as_published.shape[1]))) + "\n"
    for q, row in enumerate(as_published.tolist()):
        text += f"{q}," + ",".join(map(repr, row)) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def matrices() -> dict[str, np.ndarray]:
    """Published scores (lowest = most influential) of a task; LiSSA is near 4 x the dot product."""
    rng = np.random.default_rng(2)
    signal = np.array([[t == q for t in TRAIN] for q in QUERIES])
    dot = rng.normal(size=signal.shape) - 0.8 * signal - np.eye(11)[4] * 1.5
    return {"gmatch": dot, "inf": rng.normal(size=signal.shape) - signal,
            "lissa": 4 * dot + 0.3 * rng.normal(size=signal.shape)}


@pytest.fixture
def folder(tmp_path: Path, matrices: dict[str, np.ndarray]) -> Path:
    """Two tasks: `toy`, and `one` with label files alone and queries of a single class."""
    (tmp_path / "scores").mkdir()
    for method, values in matrices.items():
        write_scores(tmp_path / "scores" / f"some-7b-v0.3.toy_10_{method}.csv.gz", values)
    write_labels(tmp_path / "toy.train.jsonl", TRAIN, prompts="p", response="r")
    write_labels(tmp_path / "toy.test.jsonl", QUERIES, prompts="p", response="r")
    write_scores(tmp_path / "scores" / "some-7b-v0.3.one_50_inf.csv", matrices["inf"][:2])
    write_labels(tmp_path / "one.train.labels.jsonl", TRAIN)
    write_labels(tmp_path / "one.test.labels.jsonl", ["a", "a"])
    (tmp_path / "scores" / "README").write_text("not a CSV")
    return tmp_path


def loop_acc_cover(scores: np.ndarray, cut: int | None) -> tuple[float, float]:
    """Acc and Cover (at each query's number of positives where `cut` is None), highest first, as one would by hand."""
    right, share = 0, 0.0
    for q, wanted in enumerate(QUERIES):
        best = sorted(range(len(TRAIN)), key=lambda j: -scores[q][j])
        right += TRAIN[best[0]] == wanted
        at = cut if cut is not None else TRAIN.count(wanted)
        share += sum(TRAIN[j] == wanted for j in best[:at]) / at
    return right / len(QUERIES), share / len(QUERIES)


def loop_pairs(scores: np.ndarray) -> float:
    """ROC-AUC: how often a row of the query's class beats a row that is not."""
    areas = []
    for q, wanted in enumerate(QUERIES):
        wins = [scores[q][i] > scores[q][j] for i in range(11) for j in range(11)
                if TRAIN[i] == wanted and TRAIN[j] != wanted]
        areas.append(sum(wins) / len(wins))
    return sum(areas) / len(areas)


def test_rows_are_those_of_literal_loops(folder: Path, matrices: dict[str, np.ndarray]) -> None:
    rows = read_published(folder).rows
    assert [row.name for row in rows] == [
        "some-7b-v0.3.one_50_inf", *(f"some-7b-v0.3.toy_10_{method}" for method in ("gmatch", "inf", "lissa"))]
    for row in rows[1:]:
        scores = -matrices[row.method]
        acc, cover = loop_acc_cover(scores, 11 // 3)
        assert (row.n_queries, row.n_train, row.cut) == (7, 11, 3)
        assert row.acc.value == pytest.approx(acc)
        assert row.cover.value == pytest.approx(cover)
        assert row.cover_at_positives.value == pytest.approx(loop_acc_cover(scores, None)[1])
        assert row.roc_auc.value == pytest.approx(loop_pairs(scores))
        assert row.chance_acc == pytest.approx(sum(TRAIN.count(q) / 11 for q in QUERIES) / 7)
        assert row.abs_acc.value == pytest.approx(loop_acc_cover(np.abs(scores), 3)[0])
        z = np.array([[(scores[q, j] - scores[:, j].mean()) / scores[:, j].std() for j in range(11)] for q in range(7)])
        assert row.z_acc is not None
        assert row.z_acc.value == pytest.approx(loop_acc_cover(z, 3)[0])
        top = scores.argmax(axis=1).tolist()
        assert row.hubs.distinct_top1 == len(set(top))
        assert row.hubs.top1_share == pytest.approx(max(map(top.count, top)) / 7)
        for estimate in (row.acc, row.cover, row.auprc):
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.low < estimate.high
    for one, other in (("acc", "abs_acc"), ("acc", "z_acc"), ("cover", "cover_at_positives")):  # a telling case
        assert any(getattr(row, one).value != getattr(row, other).value for row in rows[1:])


def test_the_ratio_is_that_of_literal_loops(folder: Path, matrices: dict[str, np.ndarray]) -> None:
    (ratio,) = read_published(folder).ratios  # `one` has no LiSSA
    each = sorted(b / a for a, b in zip(matrices["gmatch"].ravel(), matrices["lissa"].ravel(), strict=True))
    assert ratio.median == pytest.approx(each[38])  # of 77
    assert (ratio.low, ratio.high) == (pytest.approx(each[19]), pytest.approx(each[57]))
    assert (ratio.n, ratio.undefined) == (77, 0)
    assert ratio.pearson == pytest.approx(pearsonr(matrices["gmatch"].ravel(), matrices["lissa"].ravel())[0])
    assert ratio.spearman.value == pytest.approx(
        np.mean([spearmanr(matrices["gmatch"][q], matrices["lissa"][q])[0] for q in range(7)]))
    assert 3.8 < ratio.median < 4.2


def test_a_dot_product_of_zero_has_no_ratio_and_is_counted(folder: Path, matrices: dict[str, np.ndarray]) -> None:
    path = folder / "scores" / "some-7b-v0.3.toy_10_gmatch.csv.gz"
    dot = matrices["gmatch"].copy()
    dot[2, 3:5] = 0.0
    write_scores(path, dot)
    published = read_published(folder)
    (ratio,) = published.ratios
    assert (ratio.n, ratio.undefined) == (75, 2)
    assert np.isfinite([ratio.median, ratio.low, ratio.high]).all()
    assert "75/77" in published.to_markdown()
    write_scores(path, np.zeros((7, 11)))
    got = read_published(folder).to_json()["ratios"][0]
    assert (got["n"], got["median"], got["pearson"], got["spearman"]["value"]) == (0, None, None, None)


def test_queries_of_one_class_have_no_z_acc_and_a_note(folder: Path) -> None:
    published = read_published(folder)
    row = published.rows[0]
    assert row.z_acc is None
    assert row.to_json()["z_acc"] is None
    assert row.cells()["z Acc"] == "-"
    assert any("one_50: all queries have one label" in note for note in published.notes)
    assert not any("toy_10: all queries have one label" in note for note in published.notes)


def test_z_scores_of_constant_columns_are_zero() -> None:
    values = np.array([[0.1, 1.0], [0.1, 3.0], [0.1, 8.0]])  # the mean of three times 0.1 is not 0.1
    got = z_scored(values)
    np.testing.assert_array_equal(got[:, 0], 0.0)
    np.testing.assert_allclose([got[:, 1].mean(), got[:, 1].std()], [0.0, 1.0], atol=1e-12)


def test_tables_say_what_the_rows_say(folder: Path) -> None:
    published = read_published(folder)
    markdown, as_json = published.to_markdown(), published.to_json()
    row = published.rows[2]
    assert f"| some-7b-v0.3 | toy | 10 | DataInf | 7x11 | 3 | {row.acc} | {row.cover} | " in markdown
    assert "| LiSSA / gradient dot | quartiles |" in markdown
    tables = [line.count("|") for line in markdown.splitlines() if line.startswith("|")]
    assert tables == [17] * 6 + [9] * 3
    console = Console(width=260, record=True, file=io.StringIO())
    console.print(published.to_rich("As published"))
    text = console.export_text()
    for part in ("As published", str(row.acc), str(published.ratios[0].spearman), "DataInf", "all queries have one"):
        assert part in text
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(published.to_rich(width=100))
    text = console.export_text()
    assert "no room here for epochs, shape, c," in text
    for row in published.rows:
        assert all(f" {row.cells()[name]} " in text for name in ("model", "method", "Acc", "AUPRC"))
    assert json.loads(json.dumps(as_json, allow_nan=False)) == as_json
    assert as_json["rows"][2]["acc"]["value"] == published.rows[2].acc.value


def test_tasks_without_scores_are_named(folder: Path) -> None:
    write_labels(folder / "mood.train.jsonl", TRAIN)
    assert "labels but no scores: mood" in read_published(folder).notes


def test_refusals_name_the_folder_and_what_is_expected(folder: Path, tmp_path_factory: pytest.TempPathFactory,
                                                       matrices: dict[str, np.ndarray]) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(WhenceError, match=rf"{empty}: has no folder 'scores'; expected .*scores/MODEL\.TASK"):
        read_published(empty)
    (empty / "scores").mkdir()
    with pytest.raises(WhenceError, match=r"holds no CSV of scores; expected MODEL\.TASK_EPOCHS_METHOD"):
        read_published(empty)
    odd = folder / "scores" / "some.toy_10_other.csv"
    odd.write_text("0\n0,1\n")
    with pytest.raises(WhenceError, match=r"some\.toy_10_other\.csv: not the name .* one of gmatch, inf, lissa"):
        read_published(folder)
    odd.unlink()
    twice = folder / "scores" / "some-7b-v0.3.toy_10_inf.csv"
    write_scores(twice, matrices["inf"])
    with pytest.raises(WhenceError, match=r"the same scores are there as some-7b-v0\.3\.toy_10_inf\.csv;"):
        read_published(folder)
    twice.unlink()
    (folder / "toy.test.jsonl").rename(folder / "kept")
    with pytest.raises(WhenceError, match=rf"{folder}: no labels for .*toy_10_gmatch.*toy\.test\.jsonl or "):
        read_published(folder)
    write_labels(folder / "toy.test.jsonl", QUERIES[:-1])
    with pytest.raises(WhenceError, match=r"toy_10_gmatch\.csv\.gz: scores are \[7 queries.* 6 labels in .*toy\.test"):
        read_published(folder)
    write_labels(folder / "toy.test.jsonl", [*QUERIES[:-1], "z"])
    with pytest.raises(WhenceError, match=r"toy\.test\.jsonl: query row 6 has label 'z', which no row of .*toy\.train"):
        read_published(folder)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Published:
    return read_published(shared_data / "li2024")


def test_the_real_scores_give_the_numbers_of_the_papers_metric_code(real: Published) -> None:
    assert {row.name for row in real.rows} == set(RECOMPUTED)
    assert differences(real.rows) == []


def test_a_difference_and_a_missing_row_are_told(real: Published) -> None:
    first = real.rows[0]
    wrong = replace(first, cover=replace(first.cover, value=first.cover.value + 0.0011))
    assert differences([wrong, *real.rows[1:]]) == [
        "llama2-7b-chat.grammars_10_gmatch: Cover is .127 here and .126 by check_acc_cov"]
    unscored = replace(first, acc=replace(first.acc, value=float("nan")))
    assert len(differences([unscored, *real.rows[1:]])) == 1
    assert differences(real.rows[1:]) == [f"{first.name}: no such row, nothing to compare"]


def test_the_real_rows_otherwise(real: Published) -> None:
    """AUPRC, ROC-AUC, |score|, z, first rows, as recomputed from the authors' files on the side."""
    rows = {row.name.removeprefix("llama2-7b-chat."): row for row in real.rows}
    for name, auprc, roc_auc, chance, by_abs, z, top, share in [
        ("grammars_10_gmatch", 0.134, 0.538, 0.1, 0.10, 0.27, 6, 0.51),
        ("grammars_10_inf", 0.225, 0.650, 0.1, 0.21, 0.78, 35, 0.41),
        ("grammars_10_lissa", 0.137, 0.542, 0.1, 0.10, 0.33, 7, 0.51),
        ("math_10_inf", 0.868, 0.945, 0.1, 1.00, 1.00, 92, 0.03),
        ("mixedS_50_inf", 0.700, 0.668, 0.5, 0.50, None, 6, 0.60),
        ("mixedS_50_lissa", 0.561, 0.575, 0.5, 0.15, None, 5, 0.80),
    ]:
        row = rows[name]
        assert row.auprc.value == pytest.approx(auprc, abs=6e-4)
        assert row.roc_auc.value == pytest.approx(roc_auc, abs=6e-4)
        assert row.chance_acc == pytest.approx(chance)
        assert row.abs_acc.value == pytest.approx(by_abs)
        assert (row.z_acc and row.z_acc.value) == (z if z is None else pytest.approx(z))
        assert (row.hubs.distinct_top1, row.hubs.top1_share) == (top, pytest.approx(share))


def test_the_real_lissa_is_four_times_the_dot_product(real: Published) -> None:
    ratios = {ratio.task: ratio for ratio in real.ratios}
    assert set(ratios) == {"grammars", "math", "mixedS"}
    for task, within in (("math", 2e-4), ("mixedS", 7e-3)):
        assert ratios[task].median == pytest.approx(4.0, abs=within)
        assert ratios[task].high - ratios[task].low < 2e-3 * ratios[task].median
        assert ratios[task].pearson == pytest.approx(1.0, abs=1e-5)
        assert ratios[task].spearman.value > 0.999
    assert ratios["grammars"].median == pytest.approx(2.56, abs=5e-3)
