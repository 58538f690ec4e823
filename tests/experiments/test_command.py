"""What a command says of an error that is not ours."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from experiments.command import command
from experiments.progress import Reporter
from experiments.settings.commands import StoreConfig


def test_a_limit_on_the_size_of_files_is_one_line_with_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large"

    def write(config: StoreConfig, reporter: Reporter) -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(b"x" * 4096)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        code = command("experiments.store", "", StoreConfig, write, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 1
    assert capsys.readouterr().err == (
        f"error: files: {os.strerror(errno.EFBIG)}; raise the size that a file may have, ulimit -f; "
        "nothing finished is lost\n"
    )
