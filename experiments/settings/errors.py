"""What is wrong with settings, in one line."""

import re


class ConfigError(ValueError):
    """Settings that cannot be used; the message is one line for the user."""


def explained(error: BaseException) -> str:
    """What a library found wrong, in one line."""
    return re.sub(r"\s+", " ", str(error).split("full_key:")[0].split("See https:")[0]).strip()
