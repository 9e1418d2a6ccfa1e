"""`Run.load`: a finished run comes back as it was made, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.run.fixtures import (
    ROWS,
    CopyRun,
    change_json,
    change_weights,
    point_to_base,
    write_base,
    write_run,
)
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.models.load import load_model
from whence.run.run import Run
from whence.run.stored import read_scored
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

Change = Callable[[Path], object]


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_a_run_comes_back_as_it_was_made(tune: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{tune}_folder")
    run = Run.load(folder)
    assert run.train.ids == tuple(row["id"] for row in ROWS) and run.train.groups == tuple(r["group"] for r in ROWS)
    assert run.folder == folder and run.record["status"] == "trained"
    assert {block.kind for block in run.subject.blocks} == ({"lora_a", "lora_b"} if tune == "lora" else {"linear"})
    assert len(run.subject.blocks) == (8 if tune == "lora" else 14)
    assert not run.model.training
    again = run.encode(ROWS)
    assert again.content_hash == run.train.content_hash  # queries are encoded as the training rows were
    facts = json.loads(json.dumps(run.facts(), allow_nan=False))
    assert facts["attributed"]["parameters"] == sum(block.parameters for block in run.subject.blocks)
    assert facts["hashes"] == run.record["hashes"]


def test_the_encoding_is_that_of_the_training_rows(base_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=None, max_steps=1, rank=1)
    fine_tune(base_folder, ROWS, tmp_path / "run", recipe, template="Q: {prompt} A: {completion}", max_length=40,
              eos=False)
    run = Run.load(tmp_path / "run")
    assert run.encoding == {"template": "Q: {prompt} A: {completion}", "max_length": 40, "eos": False, "chat": False}
    assert run.encode(ROWS).content_hash == run.train.content_hash


# What was changed after training, and what the refusal must say.
CHANGES: list[tuple[str, Change, str]] = [
    ("lora", lambda run: change_weights(run / "adapter/adapter_model.safetensors", lambda w: w * (1 + 1e-6)),
     "run: the fine-tuned model is not the one this run was made with"),
    ("lora", lambda run: change_json(run / "adapter/adapter_config.json", lambda c: c.update(lora_alpha=5)),
     "run: the fine-tuned model is not the one this run was made with"),
    ("full", lambda run: change_weights(run / "model/model.safetensors", lambda w: w.flip(0)),
     "run: the fine-tuned model is not the one this run was made with"),
    ("lora", lambda run: change_json(run / "adapter/tokenizer.json", lambda t: t["model"]["merges"].pop()),
     "run: the tokenizer is not the one this run was made with"),
    ("full", lambda run: (run / "model/chat_template.jinja").write_text("{{ messages }}"),
     "run: the tokenizer is not the one this run was made with"),
    ("lora", lambda run: swap_token(run / "train.parquet"),
     r"run: the training data \(train.parquet\) is not the one this run was made with"),
    ("full", lambda run: swap_token(run / "train.parquet"),
     r"run: the training data \(train.parquet\) is not the one this run was made with"),
    ("lora", lambda run: (run / "train.parquet").unlink(), r"train\.parquet: no such file"),
    ("full", lambda run: (run / "train.parquet").write_text("{}"), r"train\.parquet: not a Parquet file"),
    ("lora", lambda run: change_weights(run / "adapter/adapter_model.safetensors", lambda w: w * torch.nan),
     "NaN or infinity in 1 of 8 weights"),
    ("full", lambda run: change_weights(run / "model/model.safetensors", lambda w: w / 0),
     "NaN or infinity in 1 of"),
    ("lora", lambda run: change_json(run / "run.json", lambda record: record.update(status="training")),
     r"run: the fine-tune is not finished \(status 'training'\); give the same `whence train` command again"),
    ("full", lambda run: shutil.rmtree(run / "model"), "run/model: no such folder"),
    ("lora", lambda run: (run / "run.json").unlink(), r"run\.json: no such file"),
    ("lora", lambda run: (run / "run.json").write_text("[]"), r"run\.json: not the record of a training run"),
]


def swap_token(path: Path) -> None:
    """Another last token in the first training row."""
    train = Examples.read_parquet(path)
    train.tokens[0][-1] += 1
    train.write_parquet(path)


@pytest.mark.parametrize(("tune", "change", "message"), CHANGES)
def test_what_was_changed_is_refused(tune: str, change: Change, message: str, copy_run: CopyRun) -> None:
    folder = copy_run(tune)
    Run.load(folder)
    change(folder)
    with pytest.raises(WhenceError, match=message):
        Run.load(folder)


def test_another_base_model_is_refused_even_where_the_adapter_does_not_say_its_own(copy_run: CopyRun,
                                                                                 other_base: Path) -> None:
    folder = copy_run("lora")
    point_to_base(folder, other_base)
    with pytest.raises(WhenceError, match=r"the adapter was trained on the base model with hash \w{16}; the one at"):
        Run.load(folder)
    (folder / "adapter" / "whence.json").unlink()
    with pytest.raises(WhenceError, match="run: the base model is not the one this run was made with"):
        Run.load(folder)


def test_a_base_that_has_moved_is_found_where_it_is_said_to_be(copy_run: CopyRun, base_folder: Path, other_base: Path,
                                                               tmp_path: Path) -> None:
    folder = copy_run("lora")
    point_to_base(folder, tmp_path / "gone")
    with pytest.raises(WhenceError, match="gone: no such folder"):
        Run.load(folder)
    run = Run.load(folder, base=base_folder)
    with run.subject.base() as model, torch.no_grad():
        tokens = torch.from_numpy(run.train.tokens[0])[None]
        torch.testing.assert_close(model(input_ids=tokens).logits,
                                   load_model(base_folder).model(input_ids=tokens).logits, rtol=0, atol=0)
    with pytest.raises(WhenceError, match="the adapter was trained on the base model with hash"):
        Run.load(folder, base=other_base)


def test_a_base_stored_in_bfloat16_is_loaded_as_it_was_trained_on(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", dtype=torch.bfloat16)
    run = Run.load(write_run(base, tmp_path / "run", "lora"))
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    scored = run.score([{"prompt": "The owl is what?\n", "completion": "It is a bird."}], "gradient-dot")
    assert np.isfinite(scored["gradient-dot"].values).all()


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_gpt2_with_its_tied_head_comes_back_too(tune: str, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", architecture="gpt2")
    options = {"targets": ("c_attn",)} if tune == "lora" else {}
    run = Run.load(write_run(base, tmp_path / "run", tune, **options))
    assert {block.kind for block in run.subject.blocks} == ({"lora_a", "lora_b"} if tune == "lora" else {"conv1d"})
    query = {"prompt": "The owl is what?\n", "completion": "It is a bird."}
    scored = run.score([query], ["fisher", "repsim", "repsim(model=base)"])
    stored = read_scored(run.folder / "scores" / "queries")[1]
    for method, scores in scored.scores.items():
        assert np.ptp(scores.values) > 0
        np.testing.assert_array_equal(stored[method].values, scores.values)


def test_other_labels_alone_are_no_other_training_data(copy_run: CopyRun) -> None:
    folder = copy_run("lora")
    table = pq.read_table(folder / "train.parquet")
    pq.write_table(table.set_column(table.column_names.index("groups"), "groups", [["x"] * len(table)]),
                   folder / "train.parquet")
    assert set(Run.load(folder).train.groups) == {"x"}


def test_a_model_that_cannot_run_on_the_rows_is_refused(in_memory: Run) -> None:
    train = in_memory.train
    long = Examples(("a",), (None,), ("",), ("",), (np.zeros(49, dtype=np.int64),), (np.arange(49) > 40,), (False,))
    with pytest.raises(WhenceError, match=r"row 0 \(id 'a'\): 49 tokens, but the model has 48 positions"):
        Run(in_memory.model, in_memory.tokenizer, long)
    foreign = Examples(("a",), (None,), ("",), ("",), (np.array([1, 10_000]),), (np.array([False, True]),), (False,))
    with pytest.raises(WhenceError, match="token 10000 is outside the model's vocabulary"):
        Run(in_memory.model, in_memory.tokenizer, foreign)
    with pytest.raises(WhenceError, match="there are no examples"):
        Run(in_memory.model, in_memory.tokenizer, train.select([]))
