"""Runs a study: `python -m experiments.run study=quick seeds=5 methods=[sft,dpo]`."""

import argparse
import sys

import yaml

from experiments import summary
from experiments.config import ConfigError, load, to_dict
from experiments.progress import Reporter
from experiments.study import run
from experiments.training import DivergedError
from synth.settings import SettingError


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 stopped by its own doing, 2 bad settings, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="name=value", help="settings to change, see --show")
    parser.add_argument("--show", action="store_true", help="print every setting with its value and stop")
    options = parser.parse_intermixed_args(arguments)
    reporter = Reporter()
    try:
        config = load(options.settings)
        if options.show:
            print(yaml.safe_dump(to_dict(config), sort_keys=False), end="")
            return 0
        results = run(config, reporter)
    except (ConfigError, SettingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'files'}: {error.strerror}; nothing finished is lost", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    reporter.console.print(summary.render(results.table))
    reporter.say(f"results in {results.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
