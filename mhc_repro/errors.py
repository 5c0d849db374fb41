"""The one exception that stands for a mistake of the user's: a line that teaches, and exit code 2."""


class UserError(Exception):
    """Say in one line the value, what is allowed, and the override that fixes it."""
