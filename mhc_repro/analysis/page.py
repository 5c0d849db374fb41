"""The report as one HTML file that works offline: claims, tables, figures, runs, environments."""

import base64
from collections import Counter
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

import jinja2

from mhc_repro.analysis import figures, labels
from mhc_repro.analysis.tables import cells, claims, stability
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.evidence.ledger import column
from mhc_repro.runs import Run

TEMPLATE = Path(__file__).with_name("report.html.j2")


def page(studies: Studies, svgs: Mapping[str, str]) -> str:
    """Make the page; `svgs` holds each figure by its path below the results root."""
    runs = [run for of_study in studies.values() for comparison in of_study for run in comparison.runs]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    judged = claims.table(claims.load(), studies)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        claims=None if judged.empty else stability.Table("What others say", judged, claims.caption()),
        sections=[_section(study, of_study, svgs) for study, of_study in studies.items()],
        text_columns=cells.TEXT_COLUMNS,
        runs=[_listed(run) for run in runs],
        hours=f"{sum(run.status.get('wall_seconds') or 0 for run in runs) / 3600:.1f}",
        environments=sorted(Counter(map(_environment, runs)).items()),
    )


def _section(study: str, comparisons: list[Comparison], svgs: Mapping[str, str]) -> dict[str, Any]:
    return {
        "study": study,
        "tables": stability.tables(comparisons),
        "figures": [
            (". ".join(filter(None, [each.comparison.setting, each.caption])), _data_uri(svgs[each.path]))
            for each in figures.of_study(comparisons)
        ],
        "source": labels.provenance(comparisons, markdown=False),
    }


def _data_uri(svg: str) -> str:
    # as an image, so that the ids of two figures cannot meet
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _listed(run: Run) -> dict[str, str]:
    seconds = column(run.metrics, "time/step").median()
    wall = run.status.get("wall_seconds")
    return {
        "study": run.study,
        "run": run.run_id,
        "state": run.state,
        "steps": f"{run.status.get('step', 0)}/{run.config['train']['steps']}",
        "parameters": f"{(run.manifest.get('parameters') or {}).get('total', 0):,}",
        "step": cells.DASH if isnan(seconds) else f"{1000 * seconds:.1f} ms",
        "wall": cells.DASH if wall is None else f"{wall / 60:.1f} min",
        "commit": labels.commit(run),
    }


def _environment(run: Run) -> tuple[str, str]:
    def words(group: str) -> str:
        return ", ".join(f"{key} {value}" for key, value in (run.manifest.get(group) or {}).items())

    return words("fingerprint"), words("versions")
