"""The parts that a page may show between its markers, by name and arguments: another study takes no Python."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mhc_repro.analysis import front, labels
from mhc_repro.analysis import study as study_page
from mhc_repro.analysis.figures import scaling
from mhc_repro.analysis.tables import agreement, arms, at_best, claims, overhead, pairs, published, stability
from mhc_repro.bench.records import SCALING, newest
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import Comparison, Studies


def part(
    name: str,
    arguments: dict[str, str],
    studies: Studies,
    shown: Sequence[Comparison],
    root: Path,
    folder: str,
) -> str:
    """Write a part; UserError for a name or an argument that there is not. `folder` leads to the results root.

    One of a study may have a title, and is then a section, which is not there while the study has no run.
    """
    of_all: dict[str, Callable[[], str]] = {
        "settings": lambda: front.table(shown, studies, folder),
        "picture": lambda: front.picture(folder),
        "studies": lambda: study_page.overview(studies, folder),
        "claims": lambda: claims.part(studies),
        "claims-in-short": lambda: claims.brief(studies),
        "pairs": lambda: pairs.part(studies),
        "arms-by-family": arms.by_family,
        "bench": lambda: (
            overhead.part(root) + (f"\n\n{scaling.part(folder)}" if newest(root, SCALING) else "")
        ),
        "agreement": lambda: agreement.part(root),
        "published": lambda: published.part(studies),
    }
    of_study: dict[str, Callable[[list[Comparison]], str]] = {
        "answers": stability.brief,
        "arms": lambda found: arms.part(found, root),
        "at-best": lambda found: at_best.part(found, studies, root),
    }
    if name in of_all and not arguments:
        return of_all[name]()
    study, title = (arguments.get(key, "") for key in ("study", "title"))
    if name not in of_study or not study or arguments.keys() - {"study", "title"}:
        raise UserError(
            f"<!-- report:{name} {' '.join(f'{key}={value}' for key, value in arguments.items())} -->: "
            f"there are {', '.join(of_all)}, and, each with study= (and title=), {', '.join(of_study)}"
        )
    if study not in studies:
        return "" if title else labels.no_run(study)
    return "\n\n".join([*([f"## {title}"] if title else []), of_study[name](studies[study])])
