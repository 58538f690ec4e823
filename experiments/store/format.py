"""The format of a store's folders and manifests."""

import json
from pathlib import Path

from experiments.store.files import read_file
from synth.settings import StoppedError

FORMAT = 1
"""Of a store's folders and manifests."""
FORMAT_FILE = "store.json"
"""Says the format; a store without it is of the first."""


def check_format(root: Path) -> None:
    """Raises StoppedError unless the store, if there is one, is of our format."""
    try:
        text = read_file(root / FORMAT_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError:
        text = ""
    try:
        found = json.loads(text)["format"]
    except (ValueError, KeyError, TypeError):
        found = "unknown"
    if found != FORMAT:
        raise StoppedError(
            f"store_dir={root}: this store is of format {found}, here format {FORMAT} is read; "
            f"use the version that made it, name another folder, or remove {FORMAT_FILE} if it was damaged"
        )
