"""A study's file: what it may say, what it comes to, and what is refused with its place."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import whence.study.kinds  # noqa: F401  (registers them)
from whence.base.errors import WhenceError
from whence.study.cell import with_needs
from whence.study.expand import expand
from whence.study.spec import make_spec, read_spec

SMALL: dict[str, Any] = {
    "study": "mine", "seeds": [0, 1],
    "bases": {"b": {"steps": 2, "vocabulary": 300, "context": 64}},
    "models": {"m": {"architecture": "llama", "width": 16, "layers": 1, "maps": {"attention": ["q_proj"]}}},
    "tasks": {"t": {"base": "b", "make": "marked", "n_marked": 4, "n_normal": 4, "n_queries": 2}},
    "tunes": {"lora": {"tune": "lora", "rank": 2, "epochs": 4, "targets": "attention"}},
    "trainings": {"published": {"pads": "counted", "length": 32}, "longer": {"from": "published", "epochs": 3}},
    "scorings": {"plain": {}, "other": {"from": "plain", "lissa": "published"}},
    "experiments": {"e": {"tasks": ["t"], "models": ["m"], "tunes": ["lora"], "trainings": ["published", "longer"],
                          "scorings": ["plain"], "scorings_of": {"longer": ["other"]}, "methods": ["tfidf"],
                          "bank": {"random": 4}}}}


def changed(*path: str, value: Any) -> dict[str, Any]:
    """`SMALL` with one entry replaced."""
    whole = copy.deepcopy(SMALL)
    place = whole
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return whole


def test_an_experiment_is_a_product_seed_by_seed() -> None:
    asked = expand(make_spec(SMALL, "here"))
    assert [(one.labels["seed"], one.labels["training"]) for one in asked] == [
        (0, "published"), (0, "longer"), (1, "published"), (1, "longer")]
    kinds = [cell.kind for cell in with_needs([one.cell for one in asked])]
    assert {kind: kinds.count(kind) for kind in kinds} == {"base": 1, "fine-tune": 4, "bank": 4, "scores": 4}


def test_what_a_training_changes_and_what_it_takes_over() -> None:
    published, longer = (one.cell for one in expand(make_spec(SMALL, "here"))[:2])
    (tuned, bank), (more, _) = published.needs, longer.needs
    assert (tuned.options["recipe"]["epochs"], more.options["recipe"]["epochs"]) == (4, 12)
    assert tuned.options["encoding"]["length"] == more.options["encoding"]["length"] == 32
    assert tuned.options["recipe"]["targets"] == ["q_proj"] and "maps" not in tuned.needs[0].options
    assert list(longer.options["scorings"]) == ["other"] and longer.options["scorings"]["other"]["lissa"] == "published"
    assert bank.needs == (tuned,) and bank.options["random"] == 4 and bank.options["methods"] == []


def test_an_experiment_may_be_chosen_and_seeds_given() -> None:
    spec = make_spec(SMALL, "here")
    assert {one.labels["seed"] for one in expand(spec.chosen(seeds=[5]))} == {5}
    assert len(expand(spec.chosen(["e"]))) == 4
    own = make_spec(changed("experiments", "e", "seeds", value=[1]), "here")
    assert {one.labels["seed"] for one in expand(own)} == {1}
    with pytest.raises(WhenceError, match="--only: 'f' is not there"):
        spec.chosen(["f"])


def test_files_of_a_folder_that_is_named_later(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "completion": "c", "group": "ab"[i % 2]} for i in range(4)]
    for name in ("x.train.jsonl", "x.test.jsonl"):
        (tmp_path / name).write_text("".join(
            f'{{"prompt": "{row["prompt"]}", "completion": "c", "group": "{row["group"]}"}}\n' for row in rows))
    whole = changed("tasks", "t", value={"base": "b", "train": "{data}/x.train.jsonl",
                                         "queries": "{data}/x.test.jsonl"})
    assert make_spec(whole, "here").left_out == ("t",) and expand(make_spec(whole, "here")) == []
    spec = make_spec(whole, "here", tmp_path)
    before = expand(spec)[0].cell.key
    with (tmp_path / "x.train.jsonl").open("a") as file:
        file.write('{"prompt": "new", "completion": "c", "group": "a"}\n')
    assert expand(make_spec(whole, "here", tmp_path))[0].cell.key != before  # other rows are another cell


@pytest.mark.parametrize(("whole", "message"), [
    (changed("seed", value=[0]), r"here: no entry 'seed' \(did you mean 'seeds'\?\)"),
    (changed("seeds", value="0"), "here, seeds: met '0'; expected a list of whole numbers"),
    (changed("tasks", "t", "base", value="c"), "here, tasks, t, base: 'c' is not there.*expected b"),
    (changed("tasks", "t", "make", value="marks"), "here, tasks, t: no generator 'marks'"),
    (changed("trainings", "longer", "from", value="publish"), "here, trainings, longer, from: 'publish' is not there"),
    (changed("trainings", "longer", "pad", value=1), "here, trainings, longer: no option 'pad'"),
    (changed("scorings", "plain", value={"blocks": "layer"}), "blocks='layer': expected tensor, module, model"),
    (changed("tunes", "lora", "ranks", value=1), "here, tunes, lora: no option 'ranks'"),
    (changed("tunes", "lora", "targets", value="mlp"), r"tunes, lora, targets \(the maps of model m\): 'mlp' is not"),
    (changed("experiments", "e", "models", value=["n"]), "here, experiments, e, models: 'n' is not there"),
    (changed("experiments", "e", "scorings", value=["n"]), "here, experiments, e, scorings: 'n' is not there"),
])
def test_a_fault_is_named_with_its_place(whole: dict[str, Any], message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        make_spec(whole, "here")


def test_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match=r"study 'li202'.*did you mean 'li2024'"):
        read_spec("li202")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(WhenceError, match=r"a\.yaml: not YAML"):
        read_spec(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(WhenceError, match=r"a\.yaml: expected entries study"):
        read_spec(tmp_path / "a.yaml")
    with pytest.raises(WhenceError, match="kind 'score' is not known"):
        expand(make_spec(changed("experiments", "e", "kind", value="score"), "here"))


def test_the_built_in_study_expands() -> None:
    asked = expand(read_spec("li2024"))
    assert {one.labels["seed"] for one in asked} == {0, 1, 2, 3, 4}
    assert {"paper", "switches", "short rows", "causes", "curvature", "inverse", "checkpoints", "change"} <= {
        one.labels["experiment"] for one in asked}
