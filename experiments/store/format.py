"""The format of a store's folders and manifests."""

import json
from pathlib import Path

from experiments.store.files import read_file

FORMAT = 1
"""Of a store's folders and manifests."""
FORMAT_FILE = "store.json"
"""Says the format; a store without it is of the first."""


class StoreError(Exception):
    """A store that cannot be used; the message is one line for the user."""


def check_format(root: Path) -> None:
    """Raises StoreError unless the store, if there is one, is of our format."""
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
        raise StoreError(
            f"store_dir={root}: this store is of format {found}, here format {FORMAT} is read; "
            f"use the version that made it, name another folder, or remove {FORMAT_FILE} if it was damaged"
        )
