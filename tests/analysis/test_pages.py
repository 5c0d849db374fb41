"""The recorded pages: short, every number and every file in them from somewhere, every study listed."""

import re
from pathlib import Path

from mhc_repro.analysis import front, markers, report, study
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import by_study, comparisons, read_studies

ROOT = Path(__file__).parents[2]


def test_the_front_page_takes_little_room_and_shows_what_is_chosen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    assert len(text.encode()) <= 12_288
    studies = read_studies(ROOT / "results")
    shown = front.settings(studies)
    assert len(shown) == len(chosen().settings)
    for setting in shown:
        assert f"[{front.label(setting)}](results/" in text


def test_no_number_of_the_pages_comes_from_nowhere():
    for page in report.PAGES:
        text = (ROOT / "results" / page).read_text(encoding="utf-8")
        assert markers.untraced(text) is None, page


HAND_WRITTEN = (
    "README.md",
    "docs/*.md",
    "experiments/README.md",
    "results/*.md",
    "conf/connection/README.md",
)
FOLDERS = "mhc_repro|tests|experiments|conf|docs|notebooks"


def test_every_file_that_a_page_names_is_there():
    named = {
        (page.name, name)
        for pattern in HAND_WRITTEN
        for page in ROOT.glob(pattern)
        for name in re.findall(rf"\b(?:{FOLDERS})/[\w/]+\.(?:py|yaml|md|sh|ipynb)\b", page.read_text("utf-8"))
    }
    assert len(named) > 30
    gone = {(page, name) for page, name in named if not (ROOT / name).is_file()}
    assert gone == {("README.md", "conf/connection/yours.yaml")}


def test_every_link_of_a_page_leads_to_a_file_and_a_heading():
    def headings(page: Path) -> set[str]:
        titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
        return {
            "".join(c for c in title.lower() if c.isalnum() or c in "-_ ").replace(" ", "-")
            for title in titles
        }

    patterns = (*HAND_WRITTEN, "CHANGELOG.md", "experiments/LOG.md", "results/*/README.md")
    pages = {page for pattern in patterns for page in ROOT.glob(pattern)}
    links = {
        (page, *target.partition("#")[::2])
        for page in pages
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
        if not target.startswith("http")
    }
    assert len(links) > 1_000
    dead = {
        (page.relative_to(ROOT).as_posix(), path, heading)
        for page, path, heading in links
        if not (page.parent / path).exists()
        or (heading and heading not in headings(page.parent / path if path else page))
    }
    assert not dead


def test_a_page_leads_to_the_sections_of_the_findings_that_cite_its_study(fake):
    text = study.page("family", comparisons([fake(study="family")]))
    assert "[The family](../../results/FINDINGS.md#the-family)" in text
    assert "FINDINGS" not in study.page("zoo", comparisons([fake(study="zoo")]))
    assert "FINDINGS" not in study.page("family", comparisons([fake(study="family")]), home="")


def test_every_study_is_listed_with_what_it_asks_and_its_page_if_it_has_runs(fake):
    studies = by_study([fake("hc", study="maps", seed=seed) for seed in (0, 1)])
    lines = study.overview(studies, "x/").splitlines()
    plans = sorted((ROOT / "conf" / "study").glob("*.yaml"))
    assert len(lines) == 2 + len(plans)
    for line, plan in zip(lines[2:], plans, strict=True):
        name, asks, runs = (cell.strip() for cell in line.strip("|").split("|"))
        known = sum(len(each.runs) for each in studies.get(plan.stem, []))
        assert name == (f"[`{plan.stem}`](x/{plan.stem}/README.md)" if known else f"`{plan.stem}`")
        assert f"# {asks}" in plan.read_text("utf-8")
        assert asks.endswith("?")
        assert int(runs) == known


def test_a_page_says_what_its_runs_took(fake):
    of_study = comparisons([fake("hc", status={"wall_seconds": 5400.0}), fake("mhc", status={})])
    text = study.page("zoo", of_study)
    assert "2 runs, 1.5 hours of computing." in text
    (took,) = {line.split("|")[-3].strip() for line in text.splitlines() if "`hc-s0" in line}
    assert took == "90.0"
