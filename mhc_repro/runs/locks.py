"""Do locks hold here? Proved on the file itself: some file systems have no flock, and some only pretend to.

What cannot be seen from one machine: a mount whose locks end at the machine (Lustre's `localflock`).
"""

from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, whose locks filelock knows
    fcntl = None  # type: ignore[assignment]

MISSING = "its file system has no locks, so nothing keeps a second process from writing it at the same time"


def hold(path: Path) -> bool:
    """Say whether a lock on the file `path`, made if it is not there, keeps another one out."""
    if fcntl is None:
        return True
    with path.open("ab") as one, path.open("ab") as other:
        for file in (one, other):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True  # held, by the first of the two or by another process
            except OSError:
                return False
    return False
