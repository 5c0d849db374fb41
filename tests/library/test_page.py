"""The code on docs/your-model.md, run as it stands, one block after the other."""

import re
from pathlib import Path

import pytest

from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import read_runs

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    runs = {run.connection: run for run in read_runs(tmp_path / "runs")}
    assert set(runs) == {"mhc", "static", "mhc_gpt2", "hc_bert"}
    assert {run.state for run in runs.values()} == {"finished"}
    assert verdict(runs["mhc_gpt2"]).dead == verdict(runs["hc_bert"]).dead == ()
    assert verdict(runs["static"]).dead == ("streams_never_separated",)
    gains = {name: runs[name].metrics["gain/composite_forward"] for name in ("mhc_gpt2", "hc_bert")}
    assert gains["mhc_gpt2"].max() == pytest.approx(1, abs=1e-5)
    assert gains["hc_bert"].iloc[0] == pytest.approx(1, abs=1e-6)
    assert gains["hc_bert"].max() > 1.05
    assert "gain/composite_forward" in capsys.readouterr().out
