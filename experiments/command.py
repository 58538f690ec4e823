"""What every command shares: settings from its arguments, one line for each error, exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from experiments.checkpoint import MismatchError
from experiments.config import ConfigError, load, to_dict
from experiments.progress import Reporter
from experiments.training import DivergedError, FailedError
from synth.settings import SettingError


def command(
    module: str,
    description: str | None,
    kind: type,
    act: Callable[[Any, Reporter], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Builds the settings, a `kind`, from `name=value` arguments and passes them to `act`.

    Returns the exit code: 0 done, 1 stopped by its own doing, 2 bad settings, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="settings to change, see --show")
    parser.add_argument("--show", action="store_true", help="print every setting with its value and stop")
    options = parser.parse_intermixed_args(arguments)
    try:
        config = load(options.settings, kind)
        if options.show:
            print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
        else:
            act(config, Reporter())
    except (ConfigError, SettingError) as error:
        return _stop(2, f"error: {error}")
    except (DivergedError, FailedError, MismatchError) as error:
        return _stop(1, f"error: {error}")
    except OSError as error:
        return _stop(1, f"error: {error.filename or 'files'}: {error.strerror or error}; nothing finished is lost")
    except KeyboardInterrupt:
        return _stop(130, "interrupted; the same command goes on from the last saved state")
    return 0


def _stop(code: int, line: str) -> int:
    print(line, file=sys.stderr)
    return code
