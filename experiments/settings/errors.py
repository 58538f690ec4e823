"""What is wrong with settings, in one line."""

import re


def explained(error: BaseException) -> str:
    """What a library found wrong, in one line."""
    return re.sub(r"\s+", " ", str(error).split("full_key:")[0].split("See https:")[0]).strip()
