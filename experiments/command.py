"""What every command shares: settings from its arguments, one line for each error, exit codes."""

import argparse
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from experiments import leave, numerics
from experiments.progress import Reporter
from experiments.settings.config import load
from experiments.settings.plain import to_dict
from synth.settings import UserError

FIXES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "make room; python -m experiments.store prune removes what no study needs"
    ),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM),
        "name another folder (store_dir, output_dir), or get the right to write there",
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "name a folder, or one that can be made"),
    errno.EFBIG: "raise the size that a file may have, ulimit -f",
    errno.EMFILE: "raise the number of files that may be open, ulimit -n",
}
"""What a user can do about it, by the number of an OSError."""


def command(
    module: str,
    description: str | None,
    kind: type,
    act: Callable[[Any, Reporter], None],
    arguments: Sequence[str] | None = None,
    words: Sequence[str] = (),
) -> int:
    """Builds the settings, a `kind`, from `name=value` arguments and passes them to `act`.

    Arguments without a name are the settings `words`, in this order.

    Returns the exit code: 0 done, 1 stopped by its own doing, 2 bad settings, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        usage=" ".join(["%(prog)s", *(f"[{word}]" for word in words), "[name=value ...]", "[--show]"]),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="name=value", help="settings to change, see --show")
    parser.add_argument("--show", action="store_true", help="print every setting with its value and stop")
    options = parser.parse_intermixed_args(arguments)
    try:
        _interruptible()
        if problem := numerics.no_device():
            return _stop(2, f"error: {problem}")
        config = load(named(options.settings, words), kind)
        if options.show:
            print(yaml.safe_dump(to_dict(config), sort_keys=False), end="", flush=True)
        else:
            act(config, Reporter())
    except UserError as error:
        return _stop(error.status, f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Nobody reads any more.
    except OSError as error:
        reason = error.strerror or str(error)
        parts = (f"{error.filename or 'files'}: {reason}", FIXES.get(error.errno or 0, ""), "nothing finished is lost")
        return _stop(1, f"error: {'; '.join(part for part in parts if part)}")
    except KeyboardInterrupt:
        return _stop(130, "interrupted; the same command goes on from the last saved state")
    return 0


def _interruptible() -> None:
    """Ctrl-C raises KeyboardInterrupt again, once a start has imported all it needs."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def named(arguments: Sequence[str], words: Sequence[str]) -> list[str]:
    """Every argument as `name=value`: those without a name are `words`, which are text."""
    bare = [argument for argument in arguments if not re.match(r"[\w.]+=", argument)]
    if len(bare) > len(words):
        return list(arguments)  # One too many is refused as no setting.
    values = iter(f"{word}={value}" for word, value in zip(words, bare, strict=False))
    return [next(values) if argument in bare else argument for argument in arguments]


def _stop(code: int, line: str) -> int:
    print(line, file=sys.stderr)
    return code
