import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import report as report_command
from made_runs import make_run
from mhc_repro.analysis import labels, parts, report, theme
from mhc_repro.analysis import study as study_page
from mhc_repro.analysis.figures import OF_EACH
from mhc_repro.analysis.tables import claims, overhead, pairs, published
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import by_study, comparisons, read_studies
from mhc_repro.evidence.index import index_csv
from mhc_repro.evidence.ledger import values
from mhc_repro.runs import read_runs

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "experiments" / "report.py"
README = """# Us

<!-- report:answers study=quick -->
stale
<!-- /report -->

mHC's gain is <!-- n:composite mhc in quick -->7<!-- /n -->; others saw <!-- q:a paper -->1.6<!-- /q -->.
"""


@pytest.fixture(scope="session")
def unmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a README and, in results/, the fixture and a quick study; nothing made from them yet."""
    folder = tmp_path_factory.mktemp("unmade")
    shutil.copytree(HERE.parent / "support" / "fixture", folder / "results")
    for arm in ("baseline", "mhc"):
        make_run(folder / "results", arm, study="quick")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def texts(unmade: Path) -> dict[str, str]:
    root = unmade / "results"
    return report.render(root, read_studies(root), with_pages=True)


@pytest.fixture
def root(unmade: Path, tmp_path: Path) -> Path:
    shutil.copytree(unmade, tmp_path / "copy")
    return tmp_path / "copy" / "results"


@pytest.fixture
def made(root: Path, texts: dict[str, str]) -> Path:
    report.write(texts, root)
    return root


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no figure out, which is most of the time of a report."""
    monkeypatch.setattr(theme, "to_svg", lambda figure: "<svg/>")


def test_everything_is_written(made):
    assert {path.name for path in (made / "figures").iterdir()} == {
        f"{study}-{name}.svg" for study in ("fixture", "quick") for name, *_ in OF_EACH
    }
    text = (made.parent / "README.md").read_text(encoding="utf-8")
    assert "stale" not in text
    (gain,) = (values(run)["composite"] for run in read_runs(made, "quick") if run.connection == "mhc")
    assert f"gain is <!-- n:composite mhc in quick -->{gain:.3f}<!-- /n -->; others saw" in text
    assert "1.6<!-- /q -->" in text


def test_the_page_of_a_study_leads_to_every_run(made):
    text = (made / "fixture" / "README.md").read_text(encoding="utf-8")
    for run in read_runs(made, "fixture"):
        (row,) = [line for line in text.splitlines() if f"]({run.run_id})" in line]
        assert run.state in row
        assert labels.code(run.manifest) in row
        assert (made / "fixture" / run.run_id).is_dir()
    assert "dead: streams never separated" in text
    for name, caption, _ in OF_EACH:
        assert f"](../figures/fixture-{name}.svg)" in text
        assert text.count(caption) == 1
    assert not re.search(r"\d{4}-\d\d-\d\dT|/tmp/", text)


def test_the_page_of_a_study_quotes_its_question_and_what_the_log_says_of_it(fake):
    text = study_page.page("seeds", comparisons([fake(study="seeds")]))
    assert text.startswith(study_page.NOTICE)
    question = (SCRIPT.parents[1] / "conf/study/seeds.yaml").read_text().splitlines()[1].removeprefix("# ")
    assert f"> {question}" in text
    titles = [f"Six seeds, paired: {end}" for end in ("predictions", "what came of it")]
    assert sorted(titles, key=text.index) == titles
    assert "**Wrong.** mHC is above HC by 0.021" in text


def test_the_page_of_a_study_leads_to_its_sections_the_log_last(fake):
    def sections(study: str) -> list[str]:
        text = study_page.page(study, comparisons([fake(study=study)]))
        links = dict(re.findall(r"\[([^]]+)\]\(#([^)]+)\)", text.partition("\n## ")[0]))
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert links == {each: re.sub(r"\W+", "-", each).lower() for each in headings}
        assert "\n\n## " not in re.sub(r"\n## .+\n\n(?!## )", "", text)  # none is empty
        return headings

    assert sections("seeds") == ["Tables", "Figures", "Runs", "Predictions, and what came of them"]
    assert sections("zoo") == ["Tables", "Figures", "Runs"]  # the log has nothing on it


def test_what_is_not_there_is_said_and_no_number_stays(fake, tmp_path):
    def part(kind: str, **arguments: str) -> str:
        return parts.part(kind, arguments, by_study([fake(study="zoo")]), [], tmp_path, "")

    said = [part(name) for name in ("settings", "claims", "claims-in-short", "pairs", "bench")]
    assert said == [pairs.EMPTY, claims.EMPTY, claims.EMPTY, pairs.EMPTY, overhead.EMPTY]
    assert part("published").startswith(published.EMPTY)
    assert part("answers", study="stress") == labels.no_run("stress")
    assert part("answers", study="stress", title="Stress") == ""  # a section without runs is not there
    zoo = part("answers", study="zoo")
    assert part("answers", study="zoo", title="The zoo") == f"## The zoo\n\n{zoo}"
    for name, arguments in (
        ("nothing", {}),
        ("answers", {}),
        ("pairs", {"study": "zoo"}),
        ("answers", {"s": "zoo"}),
    ):
        with pytest.raises(UserError, match="there are settings, picture, studies, claims"):
            part(name, **arguments)


def test_index_is_the_one_of_the_runs(made):
    text = (made / "index.csv").read_bytes()
    assert index_csv(read_runs(made)).encode() == text
    assert text.count(b"\n") == 6


def test_made_again_nothing_changes(made, texts):
    assert report.write(texts, made) == []
    assert report.compare(texts, made) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../README.md", "README.md line 4"),
        ("index.csv", "results/index.csv line 4"),
        ("quick/README.md", "results/quick/README.md line 4"),
        ("figures/fixture-loss-gap.svg", "results/figures/fixture-loss-gap.svg line 4"),
    ],
)
def test_verify_names_the_first_difference(made, texts, name, shown):
    lines = (made / name).read_bytes().split(b"\n")
    lines[3] += b"7"
    (made / name).write_bytes(b"\n".join(lines))
    problem = report.compare(texts, made)
    assert problem is not None
    assert problem.startswith(shown)
    assert "\n" not in problem
    shutil.rmtree(problem.rpartition(" ")[2])


def test_verify_names_what_is_missing_and_what_is_left_over(made, texts):
    (made / "figures" / "old.svg").write_text("<svg/>")
    assert (report.compare(texts, made) or "").startswith("results/figures/old.svg comes from no run")
    assert report.prune(texts, made) == [made / "figures" / "old.svg"]
    (made / "figures" / "quick-training.svg").unlink()
    assert (report.compare(texts, made) or "").startswith("results/figures/quick-training.svg is missing")


def test_verify_sees_a_run_that_is_gone(made, sketched):
    shutil.rmtree(made / "fixture")
    shutil.rmtree(next(made.glob("quick/mhc-*")))
    problem = report.compare(report.render(made, read_studies(made), with_pages=True), made) or ""
    assert problem.startswith("README.md line ")
    shutil.rmtree(problem.rpartition(" ")[2])


def test_a_whole_report_counts_only_runs_that_have_ended(made, texts, sketched):
    make_run(made, "hc", study="quick", stops=50)
    again = report.render(made, read_studies(made), with_pages=True)
    assert again.keys() == texts.keys()
    assert all(texts[name] == text for name, text in again.items() if not name.endswith(".svg"))
    page = report.render_studies(read_studies(made, "quick"), made)["quick/README.md"]
    rows = [line for line in page.splitlines() if "interrupted at 50/160" in line]
    assert rows
    assert not any("sound" in row for row in rows)


def test_difference_shows_the_place():
    assert report.difference(b"a\nb\n", b"a\nb\n") is None
    said = report.difference(b"a\n" + b"x" * 500 + b"1\n", b"a\n" + b"x" * 500 + b"2\n")
    assert said is not None
    assert said.startswith("line 2: has 'xx")
    assert len(said) < 150
    assert report.difference(b"a\nb", b"a") == "line 2: goes on where the report made now does not"
    assert report.difference(b"a", b"a\nb") == "line 2: ends where the report made now does not"


def test_a_part_leaves_the_rest_alone(root, capsys, sketched):
    assert report_command.main(["--root", str(root), "--study", "quick", "--no-readme", "--console"]) == 0
    out = capsys.readouterr().out
    assert "Arm by arm" in out
    assert "quick-training.svg" in out
    assert (root.parent / "README.md").read_text(encoding="utf-8") == README
    assert sorted(path.parent.name for path in root.glob("*/README.md")) == ["quick"]


def test_command_line_writes_then_verifies(root, capsys, sketched):
    shutil.rmtree(root / "fixture")
    assert report_command.main(["--root", str(root)]) == 0
    assert "7 files, 7 changed" in capsys.readouterr().out
    assert report_command.main(["--root", str(root), "--verify"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    (root / "index.csv").write_text("run_id\n")
    assert report_command.main(["--root", str(root), "--verify"]) == 1
    said = capsys.readouterr().out
    assert "results/index.csv line 1" in said
    shutil.rmtree(said.split()[-1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--root", "{tmp}/nowhere"], "nowhere: no such folder"),
        (["--root", "{tmp}/results", "--study", "quik"], "no run under .*; studies there: fixture, quick"),
        (["--root", "{tmp}/results", "--study", "/tmp"], "--study /tmp: no run under"),
        (["--root", "{tmp}/results", "--study", "q*"], "no run under"),
        (["--root", "{tmp}"], "no run in there has ended"),
        (["--root="], "argument --root: must not be empty"),
        (["--root", "{own}/loop"], "loop: no such folder"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (
            ["--root", "{tmp}/results", "--verify", "--study", "quick"],
            "--verify compares a whole results root",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(root, capsys, tmp_path, arguments, said):
    (tmp_path / "loop").symlink_to("loop")
    given = [argument.format(tmp=root.parent, own=tmp_path) for argument in arguments]
    assert report_command.main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.match(f"error: .*{said}", captured.err)


def test_another_process_makes_the_same_bytes_without_torch(root, texts):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--root', {str(root)!r}]\n"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r})\n"  # as Python does for a script
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    for name, text in texts.items():
        if name != report.README:  # only results/ itself may write it
            assert (root / name).read_text(encoding="utf-8") == text
    assert (root.parent / "README.md").read_text(encoding="utf-8") == README
