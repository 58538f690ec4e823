"""Files that are whole or not there, and what stands in the place of one."""

import errno
import functools
import hashlib
import os
import platform
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)
"""Errors that say that a file is not what was written. Others, such as too many open files, say nothing about it."""


def sum_of(file: Path) -> dict[str, Any]:
    """The size in bytes and the SHA-256 of a file, as manifests have them; it is read again only if it has changed."""
    about = _regular(file)
    return {"size": about.st_size, "sha256": _sha256(file, about.st_ino, about.st_mtime_ns, about.st_size)}


def problem(file: Path, size: int, digest: str) -> str:
    """What is wrong with a file of that size in bytes and SHA-256, in a few words; nothing if it is as it was."""
    try:
        # What is of another size need not be read.
        whole = _regular(file).st_size == size and sum_of(file)["sha256"] == digest
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        return f"{file.name} is missing" if error.errno == errno.ENOENT else f"{file.name} cannot be read"
    return "" if whole else f"{file.name} is not what was written"


def _regular(path: Path) -> os.stat_result:
    """Raises OSError unless a file is there: of a folder or a pipe no content can be read."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return about


def read_file(path: Path) -> str:
    """The text of a file of ours. Raises OSError if there is none, ValueError if it is no text."""
    _regular(path)
    return path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1 << 16)
def _sha256(file: Path, inode: int, modified: int, size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, in UTF-8, that is there whole or not at all."""
    temporary = unique(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)
        raise


def unique(path: Path) -> Path:
    """A hidden name beside `path` that no other process takes, not even one on another machine with an equal number."""
    return path.with_name(f".{path.name}.{nonce()}")


def nonce() -> str:
    """The machine, so that people see whose a file is that was left, and what no two processes share."""
    return f"{platform.node()}-{secrets.token_hex(6)}"


def remove(path: Path) -> None:
    """Removes whatever is there, a folder or a file, as far as it can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def set_aside(path: Path, root: Path) -> Path:
    """Moves whatever is at `path` to the folder `damaged` of `root`; returns where it is then."""
    target = root / "damaged" / f"{path.name}-{time.time_ns()}"
    target.parent.mkdir(exist_ok=True)
    shutil.move(path, target)
    return target


def make_way(
    path: Path, root: Path, warn: Callable[[str], None], is_kind: Callable[[int], bool] = stat.S_ISREG
) -> bool:
    """Sets aside what stands where a file is to be and is none: a folder, a loop of links. Returns whether it did.

    `is_kind` is `stat.S_ISDIR` where a folder is to be.
    """
    try:
        about = path.stat()
    except OSError as error:
        if error.errno not in DAMAGE:
            raise
        about = None
    if not os.path.lexists(path) or (about and is_kind(about.st_mode)):
        return False
    kind = "file" if is_kind is stat.S_ISREG else "folder"
    warn(f"{path} is no {kind}; set aside in {set_aside(path, root)} and made again")
    return True
