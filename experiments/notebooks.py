"""Execute every notebook anew: notebooks/<name>.py, its source in jupytext's percent form, to the .ipynb beside it.

Nothing is kept that differs from one execution or one person to the next, such as times, random ids, the Python
version, and what goes to stderr: warnings name files of this machine.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from beside import CHECKOUT
from mhc_repro.command_line.entry import Parser, exit_code

FOLDER = CHECKOUT / "notebooks"


def read(source: Path) -> nbformat.NotebookNode:
    """Read a notebook's source, its cells numbered."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number}"
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path = FOLDER) -> nbformat.NotebookNode:
    """Run all cells in `folder` by the Python that runs this; CellExecutionError when one fails."""
    # without folders to look for kernels in, python3 is this Python and not what a user may have installed
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=kernel,
        extra_arguments=["--log-level=ERROR", "--HistoryManager.enabled=False"],
        record_timing=False,
        coalesce_streams=True,  # or a line comes in one piece or two, by chance
        timeout=300,
        resources={"metadata": {"path": str(folder)}},
    )
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"}
    with TemporaryDirectory() as nobodys:  # where a user's profile and start-up files would be
        # a kernel of one's own is otherwise left running
        client.execute(cleanup_kc=True, env=plain | {"IPYTHONDIR": nobodys})
    for cell in notebook.cells:
        said = [each for each in cell.get("outputs", []) if each.get("name") == "stderr"]
        for each in said:
            print(each.text, end="", file=sys.stderr)
            cell.outputs.remove(each)
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def main(arguments: list[str] | None = None) -> int:
    """Execute and write them all; return the exit code."""
    return exit_code(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    Parser(description=__doc__).parse_args(arguments)
    for source in sorted(FOLDER.glob("*.py")):
        try:
            nbformat.write(execute(read(source)), source.with_suffix(".ipynb"))
        except CellExecutionError as error:
            print(f"error: {source.name}: {error.ename}: {error.evalue}", file=sys.stderr)
            return 1
        print(f"notebooks/{source.stem}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
