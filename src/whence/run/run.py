"""`Run`: a fine-tuned model with the data it was trained on; everything the user asks is asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.base.files import write_json
from whence.base.hashing import hash_json, hash_tensors
from whence.curvature.fit import Situation
from whence.curvature.store import MemoryStore
from whence.data.encode import encode, is_chat, load_examples
from whence.data.examples import Examples
from whence.data.formats import recognise
from whence.data.rows import Rows
from whence.data.tokenizer import tokenizer_hash
from whence.measure.measurement import LogProb, Measurement
from whence.methods.catalogue import DEFAULT, hidden_keys, parse_calls
from whence.methods.evidence import Evidence
from whence.methods.registry import MethodCall, parse
from whence.models.adapter import adapter_disabled
from whence.models.blocks import select_blocks
from whence.models.load import load_model
from whence.run.collect import check_representations, collect
from whence.run.factors import Arrays, Factors
from whence.run.hit_tokens import TokenView
from whence.run.hits import Hits
from whence.run.load import same, stored_run
from whence.run.probe import Probed, read_suite, score_probes
from whence.run.report import hits_report
from whence.run.scored import Scored
from whence.run.search import Search
from whence.run.self_influence import self_influence
from whence.run.solved import solver_of
from whence.run.stored import place_of, slug, with_earlier
from whence.run.stream import SHARD_ROWS, Stream, search
from whence.run.subject import Subject
from whence.run.truth import bank_of, stiffness_of
from whence.run.verify import TRIVIAL, Verification
from whence.scores.matrix import Scores
from whence.sweep.precision import Precision
from whence.sweep.sweep import Layout
from whence.train.record import peak_memory
from whence.train.training import check_fit
from whence.trust.card import Card
from whence.trust.dial import Level
from whence.truth.bank import Bank
from whence.views.probes import ProbeSuite


class Run:
    """A model, its tokenizer and its training examples.

    Args:
        model: a causal language model, with or without a LoRA adapter.
        tokenizer: its tokenizer.
        train: the training examples, or anything `whence.data.encode.load_examples` takes.
        folder: where what is found is kept; None keeps it in memory.
        encoding: how rows become tokens (`template`, `max_length`, `eos`, and `chat`: whether the chat template
            wraps them), for queries given as text.
        base: folder or name of the base model; only needed for representations of the base of a full fine-tune.
        record: the contents of `run.json`.
        blocks: patterns that choose the attributed blocks (see `whence.models.blocks.select_blocks`).
        layout: batch size, padding, and whether the forward pass is in bf16; scores do not depend on it beyond
            rounding, which is looked at on the first rows where it is that of 16 bits (`sweep.precision`).
        measurement: what is explained of a query; default the log-probability of its response, in nats.
        memory: bytes that gradients may take at once; default half of what is free.

    Raises:
        WhenceError: training examples that the model cannot run on, or blocks that it does not have.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, train: object, *,
                 folder: str | Path | None = None, encoding: Mapping[str, Any] | None = None,
                 base: str | Path | None = None, record: Mapping[str, Any] | None = None,
                 blocks: Sequence[str] | None = None, layout: Layout | None = None,
                 measurement: Measurement | None = None, memory: int | None = None) -> None:
        self.model, self.tokenizer, self.encoding = model, tokenizer, dict(encoding or {})
        self.train = train if isinstance(train, Examples) else self.encode(train)
        check_fit(model, self.train)
        self.folder = Path(folder) if folder else None
        self.record = dict(record or {})
        self._base = base
        self._memory: dict[str, Arrays] = {}
        self._fits: dict[str, MemoryStore] = {}
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.subject = Subject(model, select_blocks(model, blocks), pad, layout or Layout(), measurement or LogProb(),
                               self._base_model, memory)
        self.timings: dict[str, float] = {}
        self._hashed: tuple[list[int], str] | None = None
        self._precision: Precision | None = None

    @classmethod
    def load(cls, folder: str | Path, *, base: str | Path | None = None, device: torch.device | str | None = None,
             **options: Any) -> Run:
        """Load the run that `whence train` left in `folder`; `options` as those of `Run`.

        Args:
            base: where the base model is now, if it is no longer where it was.

        Raises:
            WhenceError: no run, an unfinished one, or a base model, trained weights, tokenizer or training data
                that are not those the run was made with (told by content hash).
        """
        return cls(**stored_run(Path(folder), base, device), folder=folder, **options)

    def encode(self, source: object, columns: Mapping[str, str] | None = None) -> Examples:
        """Rows to examples, the way the training rows were encoded."""
        how = {name: value for name, value in self.encoding.items() if name != "chat"}
        return load_examples(source, self.tokenizer, columns=columns, **how)

    def score(self, queries: object, methods: Sequence[str] | str = DEFAULT, *, name: str = "queries",
              columns: Mapping[str, str] | None = None) -> Scored:
        """Score every training row for every query with every method, after one sweep for all of them.

        What is found on the way (Gram matrices, representations, scores) is kept in the run's folder, so a
        killed call goes on where it stopped and a second method costs no second sweep.

        Args:
            queries: `Examples`, or anything `load_examples` takes.
            methods: names such as `datainf` or `fisher(damping=1.0, scope=model)`, or `all`.
            name: of this set of queries, under `scores/` in the run's folder.
            columns: column names of the queries' file.

        Raises:
            WhenceError: unknown method or option, or none; queries that the model cannot run on; `name` already
                holds other queries; not finite gradients.
        """
        calls = parse_calls([methods] if isinstance(methods, str) else methods)
        if not calls:
            raise WhenceError("no method to score with; name some, or all")
        examples = queries if isinstance(queries, Examples) else self.encode(queries, columns)
        place = place_of(self.folder, name, examples) if self.folder else None
        start = time.perf_counter()
        evidence, measured = self._evidence(examples, calls)
        self.timings["sweep_seconds"] = time.perf_counter() - start
        start = time.perf_counter()
        if place:
            examples.write_parquet(place / "queries.parquet")
            write_json(place / "queries.json", {"content_hash": examples.content_hash, **examples.summary()})
        scores: dict[str, Scores] = {}
        for call in calls:
            scores[str(call)] = call(evidence)
            if place:
                scores[str(call)].write(place / slug(str(call)))
        self.timings["methods_seconds"] = time.perf_counter() - start
        if place:
            identity = self._identity(examples)
            write_json(place / "about.json", {**identity, "methods": with_earlier(place, identity, list(scores)),
                                              "timings": self.timings, "peak_memory": peak_memory(self.device)})
        return Scored(self.train, examples, scores, evidence, measured, self._what, self._names)

    def scored(self, queries: Examples, methods: Sequence[str]) -> Scored:
        """The same without a place of their own under `scores/`; what they are made of is kept."""
        calls = parse_calls(methods)
        evidence, measured = self._evidence(queries, calls)
        return Scored(self.train, queries, {str(call): call(evidence) for call in calls}, evidence, measured,
                      self._what, self._names)

    def fit(self, method: str = DEFAULT) -> dict[str, Any]:
        """Fit the curvature a method stands on, and keep it: later scores start from it. Returns facts of the fit.

        Raises:
            WhenceError: a method that fits no curvature.
        """
        (call,) = parse_calls([method])
        curvature = getattr(call.solver, "curvature", None)
        if curvature is None:
            raise WhenceError(f"method {method!r}: fits no curvature; expected one of ekfac, kfac and their kin")
        start = time.perf_counter()
        fitted = self._situation().fit(curvature)
        self.timings["fit_seconds"] = time.perf_counter() - start
        return {"curvature": curvature.kind, "rows": fitted.rows, "n": len(self.train),
                "blocks": len(fitted.blocks)}

    def trace(self, prompt: str, response: str, method: str = DEFAULT) -> Hits:
        """The training examples behind `response` to `prompt`, ranked by one method.

        Where the run was trained on conversations, prompt and response are one turn each of such a one.
        """
        row: dict[str, Any] = {"prompt": prompt, "completion": response}
        if self.encoding.get("chat"):
            row = {"prompt": [{"role": "user", "content": prompt}],
                   "completion": [{"role": "assistant", "content": response}]}
        query = self.encode([row])
        (call,) = parse_calls([method])
        scored = self.scored(query, [str(call)])
        scores, measured = scored[str(call)], scored.measured
        tokens = TokenView(self._situation(), query, str(call), self.subject.measurement, self.subject.memory,
                           self.tokenizer, lambda: self._identity(query))
        return Hits(query, self.train, scores, float(measured["values"][0]), bool(measured["wrong_tokens"][0] == 0),
                    self._what, lambda path, card: hits_report(scored, self.facts(), path, card), tokens,
                    lambda: self.verify(query, method))

    def search(self, rows: object, queries: object, method: str = DEFAULT, *, top: int = 100, bottom: int = 0,
               shard_rows: int = SHARD_ROWS, out: str | Path | None = None, columns: Mapping[str, str] | None = None,
               query_columns: Mapping[str, str] | None = None, max_length: int | None = None, on_bad: str = "stop",
               say: Callable[[str], object] = lambda line: None) -> Search:
        """The best rows of a corpus of any length for each query, in bounded memory (`run/stream.py`).

        A score is the effect of one more copy of the row beside this run's N training rows, with the curvature of
        these. `top`, `bottom`, `shard_rows`, `out`, `columns` and `on_bad` are those of `Stream`.

        Args:
            rows: path of a JSONL or Parquet file, or any iterable of dicts, in one of the three formats.
            queries: `Examples`, or anything `load_examples` takes.
            method: one that keeps vectors of the queries, such as `ekfac` or `gradient-dot`.
            max_length: tokens at which rows are cut off; default as the training rows were.
            say: takes a line of progress after every part.

        Raises:
            WhenceError: as `Stream` and `search` there; queries that the model cannot run on.
        """
        name, solver = solver_of(method, "search in a corpus")
        stream = Stream(top, bottom, shard_rows, Path(out) if out else None, dict(columns or {}), on_bad)
        examples = self._queries(queries, query_columns)
        how = {key: value for key, value in self.encoding.items() if key != "chat"}
        how |= {} if max_length is None else {"max_length": max_length}

        def encode_rows(found: Rows) -> Examples:
            plain = recognise(found) == "text" or is_chat(found)  # for which a template is not
            encoded = encode(found, self.tokenizer, **(how | ({"template": None} if plain else {})))
            check_fit(self.model, encoded)
            return encoded

        identity = {**self._identity(examples), "tokenizer": tokenizer_hash(self.tokenizer), "encoding": how}
        return search(rows, examples, name, solver, self._situation(), stream, encode_rows, identity,
                      self.subject.measurement, self.subject.memory, say)

    def probe(self, suite: object = "word-order", method: str = DEFAULT) -> Probed:
        """Score made-up texts against queries: does an influence survive a paraphrase, or the words in another order?

        Args:
            suite: `word-order`, a `ProbeSuite`, or rows or a file that `run.probe.read_suite` takes.
            method: one that keeps vectors of the queries.

        Raises:
            WhenceError: no such suite; texts that the model cannot run on; a method without vectors.
        """
        name, solver = solver_of(method, "score of a probe")
        suite = suite if isinstance(suite, ProbeSuite) else read_suite(suite)
        how = {key: value for key, value in self.encoding.items() if key in ("max_length", "eos")}
        texts = load_examples(suite.text_rows(), self.tokenizer, **how)
        check_fit(self.model, texts)
        return score_probes(suite, self._queries(suite.query_rows()), texts, name, solver, self._situation(),
                            self.subject.measurement, self.subject.memory)

    def self_influence(self, method: str = DEFAULT) -> Float64[np.ndarray, " N"]:
        """What one more copy of each training row would do to its own log-probability (`run/self_influence.py`).

        Raises:
            WhenceError: a method whose curvature is in no eigenbasis.
        """
        name, solver = solver_of(method, "self-influence")
        path = self._factors(None).pass_path(f"self-influence-{hash_json(name)}")
        return self_influence(self._situation(), name, solver, path)

    def verify(self, queries: object, method: str | Scores = DEFAULT, level: Level = "free", *,
               seconds: float | None = None, seed: int = 0, columns: Mapping[str, str] | None = None) -> Card:
        """Should one believe the scores of a method for these queries? The trust card (`run/verify.py`).

        Args:
            method: or the scores themselves, of any tool: [queries, training rows], positive = proponent.
            level: `free`, `cheap` (nudges, exact products) or `paid` (retraining); each with those before it.
            seconds: for what is above `free`, about.
            seed: of every sample.

        Raises:
            WhenceError: as `score`; scores of other queries or rows; `paid` of a run that whence did not train.
        """
        examples = self._queries(queries, columns)
        call = None if isinstance(method, Scores) else parse(method)
        scored = self.scored(examples, [*([str(call)] if call else []), *TRIVIAL])
        scores = method if isinstance(method, Scores) else scored[str(call)]
        if scores.values.shape != (len(examples), len(self.train)):
            raise WhenceError(f"{scores.method}: scores of shape {list(scores.values.shape)}; expected "
                              f"[{len(examples)} queries, {len(self.train)} training rows]")
        stiff = stiffness_of(self.folder, self.record, self.train)
        return Verification(self._situation(), scored, scores, call, self.subject.measurement,
                            lambda some: self.scored(some, [str(call)])[str(call)].values, stiff, self.bank,
                            self.folder).card(level, seconds, seed)

    def bank(self) -> Bank:
        """The retrain bank of this run, in its folder: what happens to queries when rows are left out.

        Raises:
            WhenceError: a run in memory, or one that whence did not train.
        """
        return bank_of(self.folder, self.record, self._base, self.train)

    def _situation(self) -> Situation:
        self._precision = self._precision or self.subject.precision(self.train)
        return self.subject.situation(self.train, self._factors(None).curvatures())

    def _queries(self, queries: object, columns: Mapping[str, str] | None = None) -> Examples:
        examples = queries if isinstance(queries, Examples) else self.encode(queries, columns)
        if len(examples) == 0:
            raise WhenceError("there are no queries; expected at least one")
        check_fit(self.model, examples)
        return examples

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(block.name for block in self.subject.blocks)

    @property
    def _what(self) -> str:
        return f"{self.subject.measurement.name}_{self.subject.measurement.unit}"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.subject.model.parameters()).device

    def facts(self) -> dict[str, Any]:
        """What a reader needs to know of this run: model, data, blocks, hashes, timings, peak memory."""
        blocks = self.subject.blocks
        return {
            **{key: self.record[key] for key in ("config", "objective", "counts", "hashes", "seeds", "machine", "final")
               if key in self.record},
            "attributed": {"blocks": len(blocks), "parameters": sum(block.parameters for block in blocks),
                           "measurement": f"{self.subject.measurement.name} in {self.subject.measurement.unit}"},
            "timings": {**self.record.get("timings", {}), **self.timings},
            "peak_memory": peak_memory(self.device),
            **({"precision": self._precision.to_json()} if self._precision else {}),
        }

    def _evidence(self, queries: Examples, calls: Sequence[MethodCall]) -> tuple[Evidence, Arrays]:
        if len(queries) == 0:
            raise WhenceError("there are no queries; expected at least one")
        check_fit(self.model, queries)
        check_representations(calls)
        if any(call.solver or "grams" in call.method.needs for call in calls):
            self._precision = self._precision or self.subject.precision(self.train)
        if any(model == "base" for model, _, _ in hidden_keys(calls)) and not self.has_base:
            raise WhenceError("repsim(model=base): the base model of this run is not known; give Run(base=PATH)")
        return collect(self.subject, self.train, queries, calls, self._factors(queries))

    def _factors(self, queries: Examples | None) -> Factors:
        identity = self._identity(queries)
        store = self.folder if self.folder else self._memory
        key = hash_json({**identity, "queries": None, "measurement": None})
        return Factors(store, key, hash_json(identity), self._fits.setdefault(key, MemoryStore()))

    def _identity(self, queries: Examples | None) -> dict[str, Any]:
        layout = self.subject.layout
        return {"weights": self._weights_hash(), "train": self.train.content_hash,
                "queries": queries.content_hash if queries else None,
                "blocks": [block.name for block in self.subject.blocks],
                "layout": [layout.batch_tokens, layout.batch_size, layout.side,
                           *([layout.dtype] if layout.dtype != "model" else [])],
                "measurement": self.subject.measurement.name}

    def _weights_hash(self) -> str:
        """Hash of all weights and of what LoRA's are scaled by; made again once a weight was changed in place."""
        state = self.model.state_dict()
        versions = [tensor._version for tensor in state.values()]
        if self._hashed is None or self._hashed[0] != versions:
            self._hashed = versions, hash_tensors(state.items())
        scalings = {name: [module.scaling[adapter] for adapter in module.active_adapters if adapter in module.scaling]
                    for name, module in self.model.named_modules() if isinstance(module, LoraLayer)}
        return hash_json([self._hashed[1], scalings])

    @property
    def has_base(self) -> bool:
        """Whether the model before the fine-tune can be had."""
        return hasattr(self.subject.model, "disable_adapter") or self._base is not None

    @contextmanager
    def _base_model(self) -> Iterator[nn.Module]:
        """The model before the fine-tune: the adapter switched off, or the base loaded from its folder."""
        if hasattr(self.subject.model, "disable_adapter"):
            with adapter_disabled(self.subject.model) as model:
                yield model
        else:
            assert self._base is not None
            loaded = load_model(self._base, device=self.device, dtype=next(self.subject.model.parameters()).dtype)
            if self.record:
                same(Path(self._base), "base model", self.record["hashes"]["base"], loaded.base_hash)
            yield loaded.model

