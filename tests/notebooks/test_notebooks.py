"""The notebooks, executed as they stand on the recorded runs, and the second on made-up runs of its study."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

import notebooks
from made_runs import make_run
from mhc_repro.evidence.styles import style
from mhc_repro.runs import ENDED, Run, read_runs
from one_line import assert_one_line

CHECKOUT = Path(__file__).parents[2]
READING = ("amax_gain_curves", "published_table")  # of recorded runs, without torch
TRAINING = "your_own_model"
NAMES = (*READING, TRAINING)
Execute = Callable[..., nbformat.NotebookNode]


@pytest.fixture(scope="module")
def execute() -> Execute:
    """Execute a notebook, on other results if asked, and make it say at its end whether it met torch."""

    def run(name: str, results: Path | None = None) -> nbformat.NotebookNode:
        notebook = notebooks.read(notebooks.FOLDER / f"{name}.py")
        if results:
            (first,) = [
                cell for cell in notebook.cells if "RESULTS =" in cell.source and cell.cell_type == "code"
            ]
            first.source = first.source.replace('Path("../results")', f"Path({str(results)!r})")
            assert str(results) in first.source
        notebook.cells.append(nbformat.v4.new_code_cell('import sys\nprint("torch" in sys.modules)'))
        return notebooks.execute(notebook)

    return run


@pytest.fixture(scope="module")
def executed(execute: Execute) -> Callable[[str], nbformat.NotebookNode]:
    done: dict[str, nbformat.NotebookNode] = {}

    def on_recorded_runs(name: str) -> nbformat.NotebookNode:
        if name not in done:
            done[name] = execute(name)
        return done[name]

    return on_recorded_runs


def stored(name: str) -> nbformat.NotebookNode:
    return nbformat.read(CHECKOUT / "notebooks" / f"{name}.ipynb", as_version=4)


def texts(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """What each code cell says: printed text and tables, not pictures, not warnings."""
    return [
        [
            output["text"] if output.output_type == "stream" else output["data"]["text/plain"]
            for output in cell.outputs
            if output.get("name") != "stderr"
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def everything(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(text for cell in texts(notebook) for text in cell)


def table(notebook: nbformat.NotebookNode, header: str) -> list[list[str]]:
    """The one table that has this column: its rows as cells of text, those that span rows only where they begin."""
    found = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if header in output.get("data", {}).get("text/html", "")
    ]
    (html,) = found
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_every_notebook_is_there_twice_and_checked_here():
    folder = CHECKOUT / "notebooks"
    assert {path.stem for path in folder.glob("*.py")} == set(NAMES)
    assert {path.stem for path in folder.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_is_in_step_with_its_source(name):
    cells = [
        (cell.id, cell.cell_type, cell.source)
        for cell in notebooks.read(notebooks.FOLDER / f"{name}.py").cells
    ]
    assert [(cell.id, cell.cell_type, cell.source) for cell in stored(name).cells] == cells, "make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebook_holds_nothing_of_the_machine(name):
    path = CHECKOUT / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < 1_000_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert "version" not in notebook["metadata"].get("language_info", {})
    said = everything(stored(name))
    assert not re.search(r"(^|[\s'\"=(])(/\w+/\w|[A-Z]:\\|~/)", said)
    assert " at 0x" not in said
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds <= {"image/png", "text/plain", "text/html"}


def test_a_mistake_is_one_line_and_executes_nothing(capsys):
    assert notebooks.main(["no_such_notebook"]) == 2
    assert_one_line(capsys, "unrecognized arguments: no_such_notebook")


@pytest.mark.parametrize("name", NAMES)
def test_executes_without_error_and_mostly_without_torch(executed, name):
    notebook = executed(name)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert texts(notebook)[-1] == [f"{name == TRAINING}\n"]


@pytest.mark.parametrize("name", READING)
def test_stored_notebook_shows_what_is_recorded_now(executed, name):
    assert texts(stored(name)) == texts(executed(name))[:-1], "make notebooks, and commit what it changes"


def test_a_users_own_settings_do_not_come_in(tmp_path, monkeypatch, capfd):
    startup = tmp_path / "profile_default" / "startup" / "mine.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("mine = True\n")
    for name, value in {"IPYTHONDIR": tmp_path, "PYTHONSTARTUP": startup, "HOME": "/dev/null"}.items():
        monkeypatch.setenv(name, str(value))
    lines = (
        "import matplotlib, sys",
        "print('mine' in dir(), matplotlib.get_configdir() != '')",
        "print('warning:', sys.prefix, file=sys.stderr)",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    assert texts(notebooks.execute(notebook)) == [["False True\n"]]
    assert [output.output_type for output in notebook.cells[0].outputs] == ["stream"]
    assert f"warning: {sys.prefix}" in capfd.readouterr().err


def test_the_stored_training_tells_the_same_story(executed):
    """Training gives other last digits on another machine: words must agree, and numbers nearly."""
    number = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")
    pair = [texts(stored(TRAINING)), texts(executed(TRAINING))[:-1]]
    kept, told = ("\n".join(text for cell in cells for text in cell) for cells in pair)
    words, numbers = zip(*((number.split(text), number.findall(text)) for text in (kept, told)), strict=True)
    assert words[0] == words[1]
    ours, now = ([float(each) for each in found] for found in numbers)
    assert now == pytest.approx(ours, rel=0.3, abs=0.3)
    for line in (
        "decoder, hc: outputs differ by less than 1e-5: True",
        "encoder, mhc: outputs differ by less than 1e-5: True",
        "at the arm's start H_post is 0.25, not 1",
        "decoder, original: ",
        "forward gain stays at 1: False; the guards found nothing",
        "forward gain stays at 1: True; the guards found nothing",
        "told straight: as it is",
        "told transposed: h_res_transposed",
        "encoder: the parameters of the original again: True",
    ):
        assert line in told


def chosen() -> list[Run]:
    """The runs that the first notebook ought to choose: found anew, by plain loops."""
    for study in ("stress", "stability", "depth", "quick"):
        runs = [run for run in read_runs(CHECKOUT / "results", study) if run.state in ENDED]
        for blocks in sorted({run.config["model"]["blocks"] for run in runs}, reverse=True):
            same = [run for run in runs if run.config["model"]["blocks"] == blocks]
            arms = [
                {run.connection for run in same if run.seed == seed} for seed in {run.seed for run in same}
            ]
            if any({"baseline", "hc", "mhc"} <= of_seed for of_seed in arms):
                return same
    raise AssertionError("nothing recorded that the notebook could read")


def test_the_curves_are_those_of_the_run_tables(executed):
    runs, notebook = chosen(), executed("amax_gain_curves")
    text = everything(notebook)
    assert f"This reads study {runs[0].study}: {runs[0].config['model']['blocks']} blocks" in text
    first = min((run for run in runs if run.connection == "baseline"), key=lambda run: run.seed)
    assert f"baseline, {4 * len(first.gains):,} gains: smallest 1.0, largest 1.0" in text

    by_name = {(style(run.connection).label, run.seed): run for run in runs}
    arm, seed, checked = "", first.seed, 0
    for *names, largest, layer, step, last in table(notebook, "at the last probe")[2:]:
        if len(names) == 2:
            name, _, of_seed = names[0].partition(", seed ")
            arm, seed = name, int(of_seed or seed)
        if names[-1].startswith("composite"):
            run, key = by_name[arm, seed], names[-1].replace(" ", "_")
            probed = run.metrics.set_index("step")[f"gain/{key}"].dropna()
            assert float(largest) == pytest.approx(probed.max(), abs=6e-4)
            assert float(last) == pytest.approx(probed.iloc[-1], abs=6e-4)
            there = run.gains[(run.gains["layer"] == int(layer)) & (run.gains["step"] == int(step))]
            assert there[key].item() == pytest.approx(float(largest), abs=6e-4)
            checked += 1
    assert checked == 2 * len(runs)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make runs of study published, all arms but HC, as if trained."""
    root = tmp_path_factory.mktemp("results")
    for arm in ("baseline", "published_mhc", "baseline_quarter"):
        make_run(root, arm, study="published")
    return root


def test_the_published_table_reads_what_is_there_and_names_what_is_not(execute, made_up):
    notebook = execute("published_table", made_up)
    text = everything(notebook)
    runs = {run.connection: run for run in read_runs(made_up)}
    assert "HC, enwik8 repr.: no run yet" in text
    assert "mHC, enwik8 repr.: finished, 160 of 160 steps" in text
    assert "not recorded yet, so not drawn: published_hc" in text

    ratio = runs["baseline"].metrics["gain/activation"].dropna()
    of_mhc = runs["published_mhc"].metrics["gain/activation"].dropna()
    average = next(row for row in table(notebook, "1 + (baseline") if row[0] == "here")
    expected = [ratio.mean(), 1 + (ratio.mean() - 1) / 4, of_mhc.mean()]
    assert [float(number) for number in average[1:4]] == pytest.approx(expected, rel=6e-4)

    loss = {arm: run.metrics.set_index("step")["loss/train"].dropna() for arm, run in runs.items()}
    apart = (loss["published_mhc"] - loss["baseline_quarter"]).abs()
    assert f"at most {apart.max():.1e} nats apart in 160 batches" in text
