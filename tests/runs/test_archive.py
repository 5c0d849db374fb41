"""An archive carries whole runs to another machine, adds none twice, and none over another."""

import tarfile
from collections.abc import Callable

import pytest

from mhc_repro.command_line import cli
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, read_runs
from mhc_repro.runs.archive import BLOCK, FILES, pack, unpack


@pytest.fixture
def made(make_config: Callable, make_run: Callable) -> list[RunDirectory]:
    return [make_run(make_config(seed=seed, study="mine_gpu")) for seed in range(3)]


def test_there_and_back(made, tmp_path, capsys):
    archive, root = tmp_path / "runs.tar", tmp_path / "elsewhere"
    assert pack(made, archive) == []
    assert cli.main(["import", str(archive), "--root", str(root)]) == 0
    assert "added 3 runs, 0 were there" in capsys.readouterr().out
    for run, other in zip(read_runs(made[0].path.parents[1]), read_runs(root), strict=True):
        assert (run.run_id, run.manifest, run.status) == (other.run_id, other.manifest, other.status)
        assert run.metrics.equals(other.metrics)
    assert unpack(archive, root)[0] == []
    assert sorted(path.name for path in root.iterdir()) == ["mine_gpu"]  # nothing is left behind


def test_what_has_no_room_stays_and_the_archive_is_within_its_limit(made, tmp_path):
    archive = tmp_path / "runs.tar"
    pack(made[:2], archive)
    limit = archive.stat().st_size
    assert pack(made, archive, limit) == made[2:]
    assert archive.stat().st_size <= limit
    assert len(unpack(archive, tmp_path / "elsewhere")[0]) == 2


def test_what_is_left_out_are_the_last_ones(made, tmp_path):
    archive, (one, big, other) = tmp_path / "runs.tar", made
    big.log.write_bytes(b"x" * 100_000)
    pack([one, other], archive)
    assert pack([one, big, other], archive, archive.stat().st_size) == [big, other]


def test_a_limit_that_the_members_alone_fill_is_not_passed(made, tmp_path):
    """A tar ends with two empty blocks and is filled up to whole records."""
    archive, run = tmp_path / "runs.tar", made[0]

    def of_members() -> int:
        sizes = [path.stat().st_size for name in FILES if (path := run.path / name).is_file()]
        return sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes)

    run.log.write_bytes(b"x")
    run.log.write_bytes(b"x" * (BLOCK + -of_members() % tarfile.RECORDSIZE))
    limit = of_members()
    assert limit % tarfile.RECORDSIZE == 0
    assert pack([run], archive, limit) == [run]
    assert archive.stat().st_size <= limit


def test_nothing_is_added_of_an_archive_with_a_fault(made, make_config, make_run, tmp_path):
    archive, root = tmp_path / "runs.tar", tmp_path / "elsewhere" / "results"

    def refused(said: str) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=said) as error:
            unpack(archive, root)
        assert "\n" not in str(error.value)
        assert sorted(tmp_path.iterdir()) == before

    pack([*made, make_run(make_config(seed=3, study="mine_gpu"), status="interrupted")], archive)
    refused("has not ended")
    table = made[0].path / "metrics.parquet"
    table.write_bytes(table.read_bytes()[:-9] + b"\0" * 9)
    pack(made, archive)
    refused(rf"^{archive}: mine_gpu/{made[0].path.name}/metrics.parquet.*changed since it was written")
    archive.write_bytes(archive.read_bytes()[:2000])
    refused("runs.tar: .*; name an archive")
    archive.unlink()
    refused("runs.tar: .*No such file")
    with tarfile.open(archive, "w") as tar:
        tar.add(table, "../outside.parquet")
    refused("outside")
    assert not (tmp_path / "outside.parquet").exists()


def test_another_run_of_the_same_id_stays(made, make_config, make_run, tmp_path):
    """As one that was trained on a CPU: an id does not say on what."""
    archive = tmp_path / "runs.tar"
    pack(made, archive)
    before = (made[2].path / "manifest.json").read_bytes()
    (made[2].path / "manifest.json").write_bytes(before.replace(b"c0ffee", b"facade"))
    with pytest.raises(UserError, match=f"{made[2].path}: another run of this id"):
        unpack(archive, made[0].path.parents[1])
    assert b"facade" in (made[2].path / "manifest.json").read_bytes()
