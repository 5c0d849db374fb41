"""A mistake in what one types for experiments/train.py is one line: the value, what is allowed, what mends it."""

import shutil

import pytest

from one_line import assert_one_line
from tiny_runs import assert_no_litter

MISTAKES = {  # what is typed, and some of what is said
    # unknown names: the nearest, as an override
    "train.stepz=100": ["train.stepz=100", "val_every, val_windows", "train.steps=100"],
    "lr=1e-3": ["lr=1e-3", "optim.lr=1e-3"],
    "batch_size=8": ["data.batch=8"],
    "sead=1": ["seed, study, connection", "seed=1"],
    "+train.warmup=3": ["+train.warmup=3", "optim.warmup=3"],
    "foo@bar=x": ["foo@bar=x"],
    "connection=mch": ["connection=mch", "baseline, baseline_quarter, ", "connection=mhc"],
    "study=stabilty": ["choose one of arms, ", "for example study=stability"],
    "protocol=tiny": ["quick, reference, small, stress", "protocol="],
    "hydra/launcher=joblibb": ["joblib", "hydra/launcher=joblib", "launchers"],
    "hydra.sweeper.parms=1": ["hydra.sweeper.params=1"],
    "hydra.launcher.n_jobs=2": ["hydra.launcher.n_jobs=2", "add one that has, hydra/launcher=joblib"],
    "hydra/launcher=joblib hydra.launcher.n_job=2": ["hydra.launcher.n_jobs=2"],
    "connection=mhc connection.mixing.iteratons=5": [
        "start, iterations, order",
        "did you mean iterations?",
    ],
    "trian.steps=3": ["there is no trian.steps", "the nearest is train.steps=3"],
    "connection=mhc connection.mixing.iterations=0": ["1 to 10,000", "connection.mixing.iterations=20"],
    "connection=identity_mix connection.mixing.iterations=10001": ["iterations=10001", "1 to 10,000"],
    "connection=mhc connection.mixing.kind=sinkhrn": ["identity, free, ", "did you mean sinkhorn?"],
    # types
    "train.steps=abc": ["train.steps=abc", "a whole number", "train.steps=2000"],
    "train.steps=1e3": ["train.steps=1e3", "a whole number", "train.steps=2000"],
    "optim.betas=0.9": ["a list of numbers", "optim.betas=[0.9,0.95]"],
    "optim.betas=[a,b]": ["a list of numbers", "optim.betas=[0.9,0.95]"],
    "probe.enabled=maybe": ["true or false", "probe.enabled=true"],
    "runtime.threads=many": ["a whole number or null", "runtime.threads=null"],
    "model.dim.x=1": ["model.dim.x=1", "a whole number", "model.dim=256"],
    "connection=3": ["baseline, baseline_quarter, ", "for example connection="],
    "connection=[hc,mhc]": ["baseline, baseline_quarter, ", "-m connection="],
    "~connection": ["baseline, baseline_quarter, "],
    # what an interpolation stands for has a type, too
    "seed=${oc.env:HOME}": ["seed=${oc.env:HOME}: seed must be a whole number; for example seed=0"],
    "optim.betas=${oc.env:HOME}": ["optim.betas=${oc.env:HOME}", "a list of numbers"],
    "optim.betas=[0.9,${nope}]": ["optim.betas=[0.9,${nope}]", "a list of numbers"],
    "connection.mixing=${seed}": ["connection.mixing=${seed}", "a mapping"],
    "connection=mhc connection.mixing.iterations=${nope}": ["connection.mixing.iterations=${nope}", "nope"],
    "seed=${seed}": ["seed=${seed}", "a whole number"],
    "connection.name=${runtime.threads}": ["connection.name=${runtime.threads}", "text"],
    "study=${seed}": ["study=${seed}: choose one of arms, ", "study=arms"],
    "study=${hydra:job.name}": ["study=${hydra:job.name}: choose one of"],
    "-m seed=0,1 optim.lr=${nope}": ["optim.lr=${nope}", "a number"],
    "model.dim=???": ["model.dim=???", "a whole number", "model.dim=256"],
    # too long, too large, too deep
    "study=[1,2]": ["study=[1,2]: choose one of arms, "],
    f"study={300 * 'x'}": ["study=xxx", " ... ", "choose one of arms, "],
    f"runtime.results={300 * 'x'}": ["runtime.results=xxx", "must be a folder", "results/local"],
    f"runtime.cache={300 * 'x'}": ["runtime.cache=xxx", "a folder", "runtime.cache=null"],
    f"runtime.enwik8={300 * 'x'}": ["runtime.enwik8=xxx", "a file", "runtime.enwik8=null"],
    f"seed={5000 * '1'}": ["seed=111", "cannot be read"],
    f"seed={5000 * '[' + 5000 * ']'}": ["seed=[[[", "nested too deeply"],
    f"connection.read_start={200 * '{a:'}1{200 * '}'}": ["connection.read_start={a:", "nested too deeply"],
    "model.dim=99999999999999999999": ["model.dim=99999999999999999999", "from 1 to 1048576"],
    "runtime.accumulate=99999999999999999999": ["from 1 to 1048576"],
    # a name that a YAML file cannot say without quotes: no is False there, 010 is 8
    "connection.name=no": ["connection.name=no", "plain name"],
    "connection.name=7": ["connection.name=7", "no number"],
    # grammar
    "seed": ["seed", "key=value", "seed=0"],
    "=3": ["=3", "key=value", "seed=0"],
    "seed=[1": ["seed=[1", "close brackets", "seed="],
    "optim..lr=1": ["there is no optim..lr", "the nearest is optim.lr=1"],
    ".lr=1": ["there is no .lr", "the nearest is optim.lr=1"],
    "optim.=1": ["there is no optim.;", "lr, betas, ", "the nearest is optim.lr=1"],
    "~optim.lr": ["~optim.lr: ", "leave it out", "optim.lr=0.0003"],
    "-m seed=0,1 ~connection.n": ["~connection.n: ", "leave it out", "connection.n=1"],
    "runtime.results=a=b": ["quote", 'runtime.results="a=b"'],
    "seed=0,1": ["seed=0,1", "-m"],
    "seed=range(3)": ["seed=range(3)", "-m"],
    "optim.lr=${nope}": ["nope"],
    "seed=???": ["seed"],
    # ranges and places
    "train.steps=0": ["train.steps=0", "from 1 to", "train.steps=2000"],
    "runtime.enwik8=/no/such/file": ["/no/such/file", "a file that exists", "runtime.enwik8=null"],
    # only in one job of many
    "-m connection=baseline,mch": ["connection=mch", "connection=mhc"],
    "-m train.stepz=1,2": ["train.stepz=1", "train.steps=1"],
    "-m seed=0,1,-2": ["seed=-2", "from 0 to", "seed=0"],
    "-m study=stability connection=hc seed=0 train.steps=5,x": [
        "train.steps=x",
        "a whole number",
        "train.steps=2000",
    ],
    "study=quick connection=hc data=synthetic runtime.results=results": [
        "enwik8",
        "runtime.results=results/local",
    ],
    "runtime.results=/etc/passwd/x": ["runtime.results=/etc/passwd/x", "must be a folder", "results/local"],
    "runtime.cache=/dev/null/x": ["runtime.cache=/dev/null/x", "a folder"],
    'runtime.results="~nobody-here/x"': ["~nobody-here/x", "no such home folder"],
    'runtime.enwik8="~nobody-here/x"': ["~nobody-here/x", "no such home folder"],
    'runtime.cache="~nobody-here/x"': ["~nobody-here/x", "no such home folder"],
    # a recorded study is what its file says
    "study=stability connection=mhc seed=0 train.steps=5": ["train.steps=5", "stability", "results/local"],
    "study=stability connection=mhc seed=0 connection.n=8": ["connection.n=8", "stability", "results/local"],
    "study=stability connection=hc seed=0 train.steps=5 runtime.results=conf/../results": [
        "train.steps=5",
        "results/local",
    ],
    "study=stability hydra.sweeper.params.connection=baseline_quarter": [
        "hydra.sweeper",
        "stability",
        "results/local",
    ],
    "study=depth connection=hc seed=0 model.blocks=5": ["model.blocks=5", "depth", "results/local"],
    "study=stability connection=hc seed=0 connection.name=mine": ["connection.name=mine", "stability"],
    "study=stability connection=mhc seed=1 +connection.mixing.order=rows_first": ["+connection.mixing"],
    # settings that would change nothing but the id
    "connection.freeze=[read]": ["connection.freeze=[read]", "kind residual", "connection.freeze=[]"],
    "connection.mixing.kind=sinkhorn": ["connection.mixing={kind:identity}", "kind residual"],
    "connection=mhc connection.freeze=[mix] connection.mixing.kind=nope": ["kind=nope", "sinkhorn"],
    "data.sha256=": ["data.sha256=null", "choose data=enwik8"],
    "runtime.results=results seed=3": ["runtime.results=results", "study in conf/study", "results/local"],
    "connection=history connection.alpha=5": ["connection.alpha=5", "kind history", "connection.alpha=0.01"],
    "connection=mhc connection.freeze=[read,read]": ["each once"],
    "connection=mhc connection.expects=[bogus]": ["connection.expects=[bogus]", "h_res_frozen"],
    # the last of two counts; a group may be misspelt
    "model.dim=16 model.dim=x": ["model.dim=x", "a whole number"],
    "conection=mhc": ["conection=mhc", "the nearest is connection=mhc"],
    # sweeps of nothing
    "-m connection=glob(zzz*)": ["connection=glob(zzz*)", "matches nothing", "baseline, baseline_quarter, "],
    "-m seed=range(0)": ["seed=range(0)", "matches nothing"],
    # and of too much
    "-m seed=interval(0,1)": ["seed=interval(0,1)", "more than 10,000 runs"],
    "-m seed=range(1000000000)": ["seed=range(1000000000)", "more than 10,000 runs"],
    "-m seed=range(200) optim.lr=range(1,200)": ["seed=range(200) optim.lr=range(1,200)", "10,000"],
    # how the jobs are run
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=0": ["n_jobs=0", "1 or more"],
    "-m seed=0,1 hydra/launcher=joblib ++hydra.launcher.n_jobs=${seed}": ["n_jobs=0", "1 or more"],
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=${oc.env:HOME}": ["${oc.env:HOME}"],
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.timeout=3": ["timeout=3", "only hydra.launcher.n_jobs"],
    "-m seed=0,1 hydra.sweeper.max_batch_size=0": ["max_batch_size=0", "null or 1 or more"],
    "-m seed=0,1 hydra.sweeper.max_batch_size=-1": ["max_batch_size=-1", "null or 1 or more"],
    # flags
    "--multi seed=1,2 --foo": ["--foo"],
    "--cfg jobs": ["'job', 'hydra', 'all'"],
    "--cfg job train.stepz=1": ["train.steps=1"],
    "-m --cfg job": ["only one of"],
    "--resolve": ["--cfg"],
    "--config-name nope": ["nope", "config"],
    "--config-name=": ["--config-name", "must not be empty"],
    "--config-dir=": ["--config-dir", "must not be empty"],
    "--config-dir /no/such/folder": ["/no/such/folder"],
}


@pytest.mark.parametrize(("line", "said"), MISTAKES.items(), ids=MISTAKES)
def test_mistake_is_one_line(line, said, main, trained, elsewhere, capsys):
    assert main(*line.split()) == 2
    assert_one_line(capsys, *said)
    assert not trained
    assert_no_litter(elsewhere)
    assert not (elsewhere.parent / "cache").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: mine\nkind: streams\nm: 4\n",
            ["connection/mine.yaml", "there is no connection.m;", "connection.n="],
        ),
        ("name: mine\nn: four\n", ["connection/mine.yaml", "a whole number"]),
        ("name: [mine\nn: 1\n", ["mine.yaml", "line 2"]),
        ("- mine\n", ["connection/mine"]),
        ("name: mine\nkind: streams\nn: 2\nmixing: {kind: sinkhrn}\n", ["identity, free, "]),
        ("3\n", ["connection=mine", "int"]),
        ("name: &a [*a]\n", ["connection=mine", "refers to itself"]),
        (f"mixing: {3000 * '{a: '}1{3000 * '}'}\n", ["connection=mine", "nested too deeply"]),
        ("name: mine\nn: 9" + 5000 * "9" + "\n", ["connection=mine", "limit (4300 digits)"]),
        ("name: no\n", ["connection.name=False", "plain name"]),
        ("name: 1e3\n", ["connection.name=1000.0", "plain name"]),
        ("name: null\n", ["connection/mine.yaml", "text"]),
        ("name: theirs\n", ["connection=mine", "its name is theirs; write name: mine"]),
        ("defaults: [mine]\n", ["connection=mine", "refers to itself"]),
    ],
)
def test_mistake_in_a_file_is_one_line(text, said, main, tmp_path, capsys):
    (tmp_path / "connection").mkdir()
    (tmp_path / "connection" / "mine.yaml").write_text(text)
    assert main("--config-dir", str(tmp_path), "connection=mine") == 2
    assert_one_line(capsys, *said)


@pytest.mark.parametrize("target", ["mine", "nowhere"])
def test_a_link_that_leads_to_no_folder_is_one_line(target, main, trained, tmp_path, capsys):
    (tmp_path / "mine").symlink_to(target)
    for key in ("runtime.results", "runtime.cache"):
        for line in ([], ["-m", "seed=0,1"], ["study=quick", "connection=hc"]):
            assert main(*line, f"{key}={tmp_path}/mine/x") == 2
            assert_one_line(capsys, f"{key}={tmp_path}/mine/x: must be", "a folder")
    assert not trained


def test_a_cache_that_cannot_be_written_is_one_line(main, trained, tmp_path, capsys):
    cache = tmp_path / "mine"
    (cache / "sweeps" / "multirun.yaml").mkdir(parents=True)
    assert main("-m", "seed=0,1", f"runtime.cache={cache}") == 2
    shutil.rmtree(cache / "sweeps")
    (cache / "sweeps").touch()
    assert main("-m", "seed=0,1", f"runtime.cache={cache}") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert str(cache / "sweeps" / "multirun.yaml") in first
    assert str(cache / "sweeps") in second
    assert "runtime.cache=" in second
    assert not trained
