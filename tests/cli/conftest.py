"""Tiny runs, see `tests.run.fixtures`."""

from tests.run.fixtures import base_folder, copy_run, full_folder, in_memory, lora_folder, other_base, queries

__all__ = ["base_folder", "copy_run", "full_folder", "in_memory", "lora_folder", "other_base", "queries"]
