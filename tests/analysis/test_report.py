import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import report as report_command
from made_runs import make_run
from mhc_repro.analysis import labels, readme, report
from mhc_repro.analysis.figures import FIGURES, depth
from mhc_repro.analysis.tables import arms, claims, overhead, pairs, published
from mhc_repro.evidence.comparison import by_study, read_studies
from mhc_repro.evidence.index import index_csv
from mhc_repro.runs import Run, read_runs

Fake = Callable[..., Run]
HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "experiments" / "report.py"
README = """# Us

<!-- report:stability-table -->
stale
<!-- /report -->
<!-- report:training-figure --><!-- /report -->
"""


@pytest.fixture(scope="session")
def unmade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a README and, in results/, the fixture and a quick study; nothing made from them yet."""
    folder = tmp_path_factory.mktemp("unmade")
    shutil.copytree(HERE / "fixture", folder / "results")
    for arm in ("baseline", "mhc"):
        make_run(folder / "results", arm, study="quick")
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def texts(unmade: Path) -> dict[str, str]:
    root = unmade / "results"
    return report.render(root, read_studies(root), with_readme=True)


@pytest.fixture
def root(unmade: Path, tmp_path: Path) -> Path:
    shutil.copytree(unmade, tmp_path / "copy")
    return tmp_path / "copy" / "results"


@pytest.fixture
def made(root: Path, texts: dict[str, str]) -> Path:
    report.write(texts, root)
    return root


def test_everything_is_written(made: Path) -> None:
    assert {path.name for path in (made / "figures").iterdir()} == {
        f"{study}-{name}.svg" for study in ("fixture", "quick") for name, *_ in FIGURES
    }
    assert {path.name for path in (made / "tables").iterdir()} == {
        "fixture-stability.md",
        "quick-stability.md",
    }
    text = (made.parent / "README.md").read_text(encoding="utf-8")
    assert "stale" not in text
    assert "](results/figures/quick-training.svg)" in text


def test_the_readme_shows_stability_rather_than_quick_runs(fake: Fake, tmp_path: Path) -> None:
    quick, stability = fake(study="quick"), fake(study="stability", seed=3)
    parts = report.parts(by_study([quick]), tmp_path)
    assert f"]({tmp_path.name}/figures/quick-training.svg)" in parts["training-figure"]
    shown = [parts[key] for key in ("stability-table", *(f"{name}-figure" for name, *_ in FIGURES))]
    assert all("a demonstration, not evidence" in part for part in shown)
    parts = report.parts(by_study([quick, stability]), tmp_path)
    assert "one seed (3)" in parts["stability-table"]
    assert "quick" not in "".join(parts[key] for key in ("stability-table", "training-figure"))


def test_without_runs_no_number_stays(fake: Fake, tmp_path: Path) -> None:
    parts = report.parts(by_study([fake(study="zoo")]), tmp_path)
    assert parts.pop("published-table").startswith(published.EMPTY)
    assert set(parts.values()) == {
        labels.NO_RUNS,
        labels.no_run("stress"),
        labels.no_run("seeds"),
        claims.EMPTY,
        pairs.EMPTY,
        depth.EMPTY,
        arms.EMPTY,
        overhead.EMPTY,
    }


def test_pictures_of_gains_are_of_stress_once_it_has_runs(fake: Fake, tmp_path: Path) -> None:
    stability, stress = fake("hc", study="stability"), fake("hc", study="stress")
    for found, study in (([stability], "stability"), ([stability, stress], "stress")):
        parts = report.parts(by_study(found), tmp_path)
        shown = {name: parts[f"{name}-figure"].partition("figures/")[2] for name, *_ in FIGURES}
        assert {name for name, path in shown.items() if path.startswith(study)} == (
            {"gain-by-layer", "mappings"} if study == "stress" else set(shown)
        )
    assert "Held-out" in parts["stability-table"]
    assert "Held-out" not in parts["stress-table"]  # explained once
    assert "held-out bpc" in parts["stress-table"]


def test_the_figure_by_depth_is_that_of_study_depth(fake: Fake, tmp_path: Path) -> None:
    runs = [fake("hc", study=study, model__blocks=blocks) for study in ("depth", "zoo") for blocks in (4, 8)]
    part = report.parts(by_study(runs), tmp_path)["gain-by-depth-figure"]
    assert "/figures/depth-gain-by-depth.svg)" in part
    assert "zoo" not in part


def test_the_readme_of_the_checkout_has_every_table(tmp_path: Path) -> None:
    text = (SCRIPT.parents[1] / "README.md").read_text(encoding="utf-8")
    parts = report.parts({}, tmp_path)
    assert readme.fill(text, parts)  # and no part that there is not
    for name in (name for name in parts if name.endswith("-table")):
        assert f"<!-- report:{name} -->" in text


def test_index_is_the_one_of_the_runs(made: Path) -> None:
    text = (made / "index.csv").read_bytes()
    assert index_csv(read_runs(made)).encode() == text
    assert text.count(b"\n") == 6


def test_page_is_one_offline_file_without_dates_or_paths(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/svg+xml;base64,") == 2 * len(FIGURES)
    assert not re.search(r"""(src|href)=["'](https?:|//)""", text)
    assert str(made) not in text
    assert "prefers-color-scheme: dark" in text
    parts = ["What others say", "As the enwik8 reproduction", "<figure>", 'id="runs"']
    assert sorted(parts, key=text.index) == parts
    seconds = [run.status["wall_seconds"] for run in read_runs(made)]
    assert f"{len(seconds)} runs, {sum(seconds) / 3600:.1f} hours" in text
    for run in made.glob("*/*/config.yaml"):
        assert f'href="{run.relative_to(made).as_posix()}"' in text


def test_made_again_nothing_changes(made: Path, texts: dict[str, str]) -> None:
    again = report.render(made, read_studies(made), with_readme=True)
    assert again == texts
    assert report.write(again, made) == []
    assert report.compare(again, made) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../README.md", "README.md line 4"),
        ("index.csv", "results/index.csv line 4"),
        ("tables/quick-stability.md", "results/tables/quick-stability.md line 4"),
        ("figures/fixture-loss-gap.svg", "results/figures/fixture-loss-gap.svg line 4"),
        ("report.html", "results/report.html line 4"),
    ],
)
def test_verify_names_the_first_difference(made: Path, texts: dict[str, str], name: str, shown: str) -> None:
    lines = (made / name).read_bytes().split(b"\n")
    lines[3] += b"7"
    (made / name).write_bytes(b"\n".join(lines))
    problem = report.compare(texts, made)
    assert problem is not None
    assert problem.startswith(shown)
    assert "\n" not in problem
    shutil.rmtree(problem.rpartition(" ")[2])


def test_verify_names_what_is_missing_and_what_is_left_over(made: Path, texts: dict[str, str]) -> None:
    (made / "figures" / "old.svg").write_text("<svg/>")
    assert (report.compare(texts, made) or "").startswith("results/figures/old.svg comes from no run")
    assert report.prune(texts, made) == [made / "figures" / "old.svg"]
    (made / "figures" / "quick-training.svg").unlink()
    assert (report.compare(texts, made) or "").startswith("results/figures/quick-training.svg is missing")


def test_verify_sees_a_run_that_is_gone(made: Path) -> None:
    shutil.rmtree(made / "fixture")
    shutil.rmtree(next(made.glob("quick/mhc-*")))
    problem = report.compare(report.render(made, read_studies(made), with_readme=True), made) or ""
    assert problem.startswith("README.md line ")
    shutil.rmtree(problem.rpartition(" ")[2])


def test_a_whole_report_counts_only_runs_that_have_ended(made: Path, texts: dict[str, str]) -> None:
    make_run(made, "hc", study="quick", stops=50)
    assert report.compare(report.render(made, read_studies(made), with_readme=True), made) is None
    assert (
        "interrupted at 50/160"
        in report.render_studies(read_studies(made, "quick"))["tables/quick-stability.md"]
    )


def test_difference_shows_the_place() -> None:
    assert report.difference(b"a\nb\n", b"a\nb\n") is None
    said = report.difference(b"a\n" + b"x" * 500 + b"1\n", b"a\n" + b"x" * 500 + b"2\n")
    assert said is not None
    assert said.startswith("line 2: has 'xx")
    assert len(said) < 150
    assert report.difference(b"a\nb", b"a") == "line 2: goes on where the report made now does not"
    assert report.difference(b"a", b"a\nb") == "line 2: ends where the report made now does not"


def test_a_part_leaves_the_rest_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_command.main(["--root", str(root), "--study", "quick", "--no-readme", "--console"]) == 0
    out = capsys.readouterr().out
    assert "What answers the question" in out
    assert "quick-training.svg" in out
    assert (root.parent / "README.md").read_text(encoding="utf-8") == README
    assert sorted(path.name for path in (root / "tables").iterdir()) == ["quick-stability.md"]
    assert not (root / "report.html").exists()


def test_command_line_writes_then_verifies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "fixture")
    assert report_command.main(["--root", str(root)]) == 0
    assert "8 files, 8 changed" in capsys.readouterr().out
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
        (["--root="], "give a folder"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (
            ["--root", "{tmp}/results", "--verify", "--study", "quick"],
            "--verify compares a whole results root",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert report_command.main([argument.format(tmp=root.parent) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert re.match(f"error: .*{said}", captured.err)


def test_another_process_makes_the_same_bytes_without_torch(root: Path, texts: dict[str, str]) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPT)!r}, '--root', {str(root)!r}]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    for name, text in texts.items():
        if name != report.README:  # only results/ itself may write it
            assert (root / name).read_text(encoding="utf-8") == text
    assert (root.parent / "README.md").read_text(encoding="utf-8") == README
