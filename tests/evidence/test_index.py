"""One row a run, with all that is known of it, blanks for what is not, and the same bytes for the same runs."""

import io
import random

import pandas as pd
import pytest

from made_runs import make_run
from mhc_repro.evidence.index import COLUMNS, WHO, index, index_csv
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.runs import read_runs


def test_every_run_has_every_quantity_and_its_verdict(tmp_path):
    make_run(tmp_path, "baseline", spike=150)
    make_run(tmp_path, "mhc", dead=True)
    runs = read_runs(tmp_path)
    frame = pd.read_csv(io.StringIO(index_csv(runs))).set_index("connection")
    for run in runs:
        row = frame.loc[run.connection]
        assert (row["run_id"], row["status"]) == (run.run_id, "finished")
        assert (row["steps"], row["parameters"]) == (160, 1050)
        assert row[list(LEDGER)].astype(float).to_dict() == pytest.approx(values(run), nan_ok=True)
    assert frame["dead"].fillna("").to_dict() == {"baseline": "", "mhc": "streams_never_separated"}
    assert frame.loc["baseline", "loss_spikes"] == 1


def test_a_setting_that_is_not_the_same_in_all_runs_has_a_column(tmp_path):
    for lr in (1e-3, 3e-3):
        make_run(tmp_path, "hc", lr=lr)
    make_run(tmp_path, "baseline", blocks=3)
    frame = index(read_runs(tmp_path))
    assert sorted(frame.query("connection == 'hc'")["optim.lr"]) == [1e-3, 3e-3]
    assert frame.query("`model.blocks` == 3")["connection"].tolist() == ["baseline"]
    assert not {"train.steps", "connection.n"} & {*frame.columns}  # the same in all; of the connection


@pytest.mark.parametrize("ended", [{"diverges": 130}, {"stops": 130}])
def test_a_run_that_did_not_finish_has_no_final_loss(tmp_path, ended):
    make_run(tmp_path, "hc", **ended)
    row = index(read_runs(tmp_path)).iloc[0]
    assert row[["loss_last", "loss_final", "bpc_test"]].isna().all()
    assert row["steps"] == 130
    if "diverges" in ended:
        assert row["bpc"] == float("inf")
        assert row["composite"] > 1
    else:
        assert row[list(LEDGER)].isna().all()


def test_a_run_that_only_began_has_blanks(tmp_path):
    folder = make_run(tmp_path, "mhc", stops=20)
    for name in ("manifest.json", "status.json"):
        (folder / name).unlink()
    row = pd.read_csv(io.StringIO(index_csv(read_runs(tmp_path)))).iloc[0].dropna()
    known = {"run_id": folder.name, "study": "fixture", "connection": "mhc", "seed": 0, "status": "missing"}
    assert row.to_dict() == known | {"data_sha256": 0}  # sixty-four zeros


def test_the_order_of_writing_does_not_show(tmp_path):
    arms = ["baseline", "hc", "mhc"]
    texts = set()
    for seed in range(2):
        random.Random(seed).shuffle(arms)
        for arm in arms:
            make_run(tmp_path / str(seed), arm)
        texts.add(index_csv(read_runs(tmp_path / str(seed))))
    assert len(texts) == 1
    assert "\r" not in texts.pop()


def test_no_runs_give_the_header():
    assert index_csv([]) == ",".join((*WHO, *COLUMNS)) + "\n"
