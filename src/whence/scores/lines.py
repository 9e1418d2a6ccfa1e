"""Whole text files in, plain or gzipped, with errors that name the file."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from whence.base.errors import WhenceError


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped); gzipped where the name ends in `.gz`.

    Raises:
        WhenceError: the file is missing, is a folder, is not gzipped as its name says, or is not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise WhenceError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); "
                          f"a gzipped file must have a name that ends in .gz") from None
    except (OSError, EOFError, zlib.error) as error:
        raise WhenceError(f"{path}: cannot be read ({error})") from None
