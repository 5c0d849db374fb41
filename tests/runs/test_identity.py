"""The id changes with everything that can change a number, and with nothing else."""

import copy
import hashlib

import pytest
import yaml

from mhc_repro.config import Config
from mhc_repro.reading import Unfit
from mhc_repro.runs import identity
from mhc_repro.runs.identity import canonical_json, completed, identify, resolved, run_id

GROUPS = sorted(vars(Config()).keys() - {"seed", "study", "runtime"})
PLACES = {"data": {"path"}}  # where things lie, by group


def leaves(group: str) -> list[str]:
    return list(vars(getattr(Config(), group)))


ANOTHER = {  # value, by type
    type(None): lambda value: 3,
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value * 2 + 1e-9,
    str: lambda value: value + "x",
    list: lambda value: [*value, "x"],
    dict: lambda value: {**value, "kind": "another"},
}


def changed(group: str, name: str) -> Config:
    config = Config()
    value = getattr(getattr(config, group), name)
    setattr(getattr(config, group), name, ANOTHER[type(value)](value))
    return config


def test_golden_id():
    # If this fails, every recorded run has lost its id: it would be made again.
    assert run_id(Config()) == "baseline-s0-6aa2d3b6"


def test_id_is_the_hash_of_the_canonical_json_written_by_hand():
    optim = {"lr": 3e-4, "clip": 1}  # both are defaults
    config = {"study": "a", "seed": 7, "connection": {"name": "hc", "alpha": 0.01, "n": 4.0}, "optim": optim}
    text = '{"config":{"connection":{"n":4,"name":"hc"},"seed":7},"protocol_version":3}'
    assert identify(config, 3) == "hc-s7-" + hashlib.sha256(text.encode()).hexdigest()[:8]


@pytest.mark.parametrize("group", GROUPS)
def test_every_result_relevant_field_changes_the_hash(group):
    default = run_id(Config()).rsplit("-", 1)[1]
    for name in set(leaves(group)) - PLACES.get(group, set()):
        assert run_id(changed(group, name)).rsplit("-", 1)[1] != default, f"{group}.{name}"


def test_seed_and_protocol_version_change_the_hash():
    hashes = {run_id(Config(seed=0))[-8:], run_id(Config(seed=1))[-8:], identify(resolved(Config()), 2)[-8:]}
    assert len(hashes) == 3


def test_a_field_that_the_schema_did_not_have_yet_leaves_the_id_alone():
    old = resolved(Config())
    del old["optim"]["eps"], old["connection"]["reduce"]
    assert identify(old) == run_id(Config())


def test_a_retired_field_at_its_default_is_as_if_it_had_never_been(monkeypatch):
    gone = {"gone": {"a": 0.5, "b": [1]}, "optim": {"old": "x"}}
    monkeypatch.setattr(identity, "RETIRED", gone)
    old = resolved(Config())
    old["gone"], old["optim"]["old"] = {"a": 0.5, "b": [1.0]}, "x"
    assert identify(old) == run_id(Config())
    assert completed(old) == resolved(Config())


def test_a_retired_field_that_says_otherwise_keeps_its_own_id_and_is_still_read(monkeypatch):
    monkeypatch.setattr(identity, "RETIRED", {"gone": {"a": 0.5, "b": 1}, "optim": {"old": "x"}})
    for group, changed in (("gone", {"a": 2}), ("optim", {"old": "y"})):
        old = resolved(Config())
        old[group] = old.get(group, {}) | changed
        text = canonical_json({"protocol_version": 1, "config": {"seed": 0, group: changed}})
        assert identify(old) == "baseline-s0-" + hashlib.sha256(text.encode()).hexdigest()[:8]
        assert identify(completed(old)) == identify(old)
        assert completed(old)[group].items() >= changed.items()


def test_a_group_that_never_was_is_no_runs():
    with pytest.raises(Unfit, match=r"^never\.a: no setting of this version"):
        completed(resolved(Config()) | {"never": {"a": 1}})


def test_a_nested_start_changes_the_hash():
    config = Config()
    config.connection.read_start[0] += 1e-12
    assert run_id(config) != run_id(Config())


def test_where_and_what_for_do_not_change_the_id():
    assert run_id(Config(study="elsewhere")) == run_id(Config())
    assert run_id(changed("data", "path")) == run_id(Config())
    assert "path" not in resolved(changed("data", "path"))["data"]
    for name in leaves("runtime"):
        assert run_id(changed("runtime", name)) == run_id(Config()), name


def test_numbers_are_compared_by_value_and_booleans_are_no_numbers():
    assert canonical_json({"b": (1.0, -0.0), "a": [1e16, 0.1]}) == '{"a":[10000000000000000,0.1],"b":[1,0]}'
    assert canonical_json(True) != canonical_json(1)


def test_the_id_survives_the_config_file():
    config = Config()
    config.optim.eps = 1e-20
    config.connection.mixing = {"kind": "sinkhorn", "iterations": 20, "note": "1e-3", "extreme": 1e22}
    before = copy.deepcopy(config)
    assert identify(yaml.safe_load(yaml.safe_dump(resolved(config)))) == run_id(config)
    assert config == before
