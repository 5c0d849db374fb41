"""Execute every notebook anew: notebooks/<name>.py, its source in jupytext's percent form, to the .ipynb beside it.

Nothing is kept that differs from one execution to the next, such as times, random ids and the Python version.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


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
    client.execute(cleanup_kc=True)  # a kernel of one's own is otherwise left running
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def main() -> int:
    """Execute and write them all; return the exit code."""
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
