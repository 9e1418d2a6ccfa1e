"""What sweeps found, kept in a run's folder: one file a block, so that a killed run loses one group of blocks.

    factors/KEY/gram/0003.safetensors               K of block 3, float64 [N, N]
    factors/KEY/curvature/NAME.safetensors          bases and eigenvalues of a fitted curvature
    factors/KEY/QUERIES/products/SOLVER.safetensors x^T g by block [blocks, Q, N], and the solver's facts
    factors/KEY/QUERIES/cross/0003.safetensors      K_v [Q, N] and |v|^2 [Q]
    factors/KEY/QUERIES/measured.safetensors        values and greedy matches of the queries
    factors/KEY/QUERIES/hidden/MODEL_LAYER_TOKEN.safetensors

KEY is the content hash of weights, training rows, blocks and layout; QUERIES that of the queries and what is
measured of them. A mismatch is another key, so nothing stale is ever read.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import safetensors.torch
from safetensors.numpy import load_file, save_file

from whence.base.files import atomic_file
from whence.base.hashing import hash_json
from whence.curvature.gram import Gram
from whence.curvature.products import Products
from whence.curvature.solver import Solver
from whence.curvature.store import MemoryStore, Store, Tensors
from whence.methods.evidence import HiddenKey
from whence.models.blocks import Block

Arrays = dict[str, np.ndarray]


class Factors:
    """The factors of one model and training set, and of one set of queries: in a folder, or in memory.

    Args:
        store: the run's folder, or a dictionary that keeps the arrays of a run without one.
        key: content hash of weights, training rows, blocks and layout.
        queries: content hash of the queries and of what is measured.
        memory: keeps the fitted curvatures of a run without a folder.
    """

    def __init__(self, store: Path | dict[str, Arrays], key: str, queries: str,
                 memory: MemoryStore | None = None) -> None:
        self._store, self._train, self._queries = store, f"factors/{key}", f"factors/{key}/{queries}"
        self._memory = memory or MemoryStore()

    def train_gram(self, index: int, block: Block) -> Gram | None:
        """K of block `index`, without any queries."""
        train = self._read(f"{self._train}/gram/{index:04d}")
        if train is None:
            return None
        K = train["train"]
        return Gram(block.name, block.parameters, K, np.empty((0, len(K))), np.empty(0))

    def gram(self, index: int, block: Block) -> Gram | None:
        """K, K_v and |v|^2 of block `index`."""
        train, cross = self.train_gram(index, block), self._read(f"{self._queries}/cross/{index:04d}")
        return train.with_queries(cross["cross"], cross["query_norms"]) if train and cross else None

    def keep_gram(self, index: int, gram: Gram) -> None:
        """Store K_v, |v|^2 and, first of all, K if it is not there yet."""
        if not self._has(f"{self._train}/gram/{index:04d}"):
            self._write(f"{self._train}/gram/{index:04d}", {"train": gram.train})
        self._write(f"{self._queries}/cross/{index:04d}", {"cross": gram.cross, "query_norms": gram.query_norms})

    def hidden(self, key: HiddenKey) -> tuple[np.ndarray, np.ndarray] | None:
        """Stored (queries, train) representations."""
        stored = self._read(f"{self._queries}/hidden/{'_'.join(map(str, key))}")
        return None if stored is None else (stored["queries"], stored["train"])

    def keep_hidden(self, key: HiddenKey, queries: np.ndarray, train: np.ndarray) -> None:
        """Store representations."""
        self._write(f"{self._queries}/hidden/{'_'.join(map(str, key))}", {"queries": queries, "train": train})

    def curvatures(self) -> Store:
        """The store of fitted curvatures of this model and training set."""
        if isinstance(self._store, dict):
            return self._memory
        return FolderStore(self._store / self._train / "curvature")

    def products(self, solver: Solver) -> Products | None:
        """Stored products of a solver's vectors."""
        stored = self._read(f"{self._queries}/products/{hash_json(repr(solver))}")
        return None if stored is None else Products(stored["by_block"], json.loads(stored["facts"].tobytes()))

    def keep_products(self, solver: Solver, products: Products) -> None:
        """Store them."""
        facts = np.frombuffer(json.dumps(products.facts).encode(), dtype=np.uint8)
        self._write(f"{self._queries}/products/{hash_json(repr(solver))}",
                    {"by_block": products.by_block, "facts": facts})

    def pass_path(self, name: str) -> Path | None:
        """A file for the state of a pass over the training rows for these queries."""
        return None if isinstance(self._store, dict) else self._store / self._queries / f"pass-{name}.safetensors"

    def measured(self) -> Arrays | None:
        """Stored `values` and `wrong_tokens` of the queries."""
        return self._read(f"{self._queries}/measured")

    def keep_measured(self, arrays: Arrays) -> None:
        """Store them."""
        self._write(f"{self._queries}/measured", arrays)

    def _has(self, name: str) -> bool:
        return name in self._store if isinstance(self._store, dict) else (self._store / f"{name}.safetensors").exists()

    def _read(self, name: str) -> Arrays | None:
        if isinstance(self._store, dict):
            return self._store.get(name)
        path = self._store / f"{name}.safetensors"
        return load_file(path) if path.exists() else None

    def _write(self, name: str, arrays: Arrays) -> None:
        if isinstance(self._store, dict):
            self._store[name] = arrays
        else:
            with atomic_file(self._store / f"{name}.safetensors") as part:
                save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, part)


class FolderStore:
    """Fitted curvatures in a folder, a file a bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Tensors | None:
        """The bundle, or None."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return None
        # in memory of their own: what is read stands where it stood in the file, and alignment decides last bits
        return {key: tensor.clone() for key, tensor in safetensors.torch.load_file(path).items()}

    def put(self, name: str, tensors: Tensors) -> None:
        """Write the bundle, atomically."""
        with atomic_file(self.folder / f"{name}.safetensors") as part:
            safetensors.torch.save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
                                        part)

    def path(self, name: str) -> Path | None:
        """Where the state of a pass is kept while it runs."""
        return self.folder / f"pass-{name}.safetensors"
