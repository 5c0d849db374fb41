"""Where results are: in the checkout, kept or not."""

from pathlib import Path

from mhc_repro.paths import expanded, real

ROOT = Path(__file__).resolve().parents[1]  # what holds the package: a checkout, or where it is installed
RECORDED, LOCAL = "results", "results/local"  # roots of what is kept in git, and within it of what is not
DEFAULT_ROOTS = (RECORDED, LOCAL)  # read where none is named
BENCH, FIGURES = "bench", "figures"  # folders of a root that are no studies


def checkout() -> Path:
    """Return the folder that holds the package and `conf/`; without `conf/`, the working directory."""
    return ROOT if (ROOT / "conf").is_dir() else Path.cwd()


def results_root(results: str) -> Path:
    """Return the folder of all studies; a relative path starts at the checkout."""
    return checkout() / expanded(results)


def runs_root(root: str) -> Path:
    """Return a folder of studies to read: of a relative path that the checkout lacks, the one here."""
    place, here = results_root(root), expanded(root).absolute()
    return here if here.is_dir() and not place.is_dir() else place


def is_recorded(root: Path) -> bool:
    """Say whether what is written under a results root would be kept: in RECORDED, and not in LOCAL."""
    place, recorded, local = map(real, (root, results_root(RECORDED), results_root(LOCAL)))
    return place.is_relative_to(recorded) and not place.is_relative_to(local)
