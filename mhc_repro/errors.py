"""The one exception that stands for a mistake of the user's."""

from pathlib import Path


class UserError(Exception):
    """Say in one line the value, what is allowed, and the override that fixes it."""


def unusable(file: Path, why: str) -> UserError:
    """Return the error for a file of the checkout that does not hold what it should."""
    return UserError(f"{file}: {why}; mend it, or git checkout {file}")
