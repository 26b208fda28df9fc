"""The notebooks in docs: executed on the real model, and committed without outputs."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# How long a notebook trains and on how much it evaluates is no business of these tests.
SHORTER = {
    "time_limit_minutes=0.5,": "time_limit_minutes=0.01, context=32, last_context=64, windows=2,",
    "texts=8, context=128": "texts=2, context=32",
}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes where no kernel was compiled before
@pytest.mark.filterwarnings("default")  # of jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, model_data_dir, tmp_path, monkeypatch):
    nbclient, _, nbformat = map(pytest.importorskip, ("nbclient", "ipykernel", "nbformat"))
    monkeypatch.setenv("SOL_DATA_DIR", str(model_data_dir))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    for long, short in SHORTER.items():
        (cell,) = [cell for cell in notebook.cells if long in cell.source]
        cell.source = cell.source.replace(long, short)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(outputs[:5]), "each of these shows something"
    shown = "".join(str(output) for cell in outputs for output in cell)
    assert "<iframe srcdoc=" in shown
    assert "<th>KL to dense, nats</th>" in shown
    assert "KL to dense" in shown
    static, policy = re.findall(r"(?:static|policy) +[\d.]+ nats per token \((.*?)\)", shown)
    assert static == policy, "they are compared at one spend"
