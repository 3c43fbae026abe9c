"""The deployment files: what they say fits together, and every command in them is one that its program understands."""

import ast
import importlib.util
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from foldatlas.jobs.cli import build_parser, split_beam_options
from foldatlas.pipeline.engines.choose import choose_engine
from foldatlas.pipeline.engines.dask.keys import main as make_keys_and_say
from foldatlas.pipeline.engines.dask.keys import make_keys
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.schemas.errors import UsageError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "jobs" / "deploy"
GPU = "nvidia.com/gpu"


def parsed(words: list[str]) -> Any:
    """What `foldatlas` makes of the words after its name."""
    ours, beam = split_beam_options(words)
    arguments = build_parser().parse_args(ours)
    arguments.beam_options = beam
    return arguments


def engine_of(words: list[str]) -> Engine:
    arguments = parsed(words)
    return choose_engine(arguments.runner, arguments.workers, arguments.beam_options)


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def manifests(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))
    found = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert len(found) == len(documents)
    return found


def pods(documents: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for (kind, name), document in documents.items():
        if kind in ("Deployment", "Job"):
            yield name, document["spec"]["template"]


@pytest.mark.parametrize("name", ["dask.yaml", "flink.yaml"])
def test_manifests_fit_together(name: str) -> None:
    documents = manifests(name)
    labels = [pod["metadata"]["labels"] for _, pod in pods(documents)]
    for (kind, _), document in documents.items():
        if kind == "Service":
            selector = document["spec"]["selector"]
            (chosen,) = [pod for _, pod in pods(documents) if selector.items() <= pod["metadata"]["labels"].items()]
            open_ports = {port["containerPort"] for part in chosen["spec"]["containers"] for port in part["ports"]}
            assert {port.get("targetPort", port["port"]) for port in document["spec"]["ports"]} == open_ports
        if kind == "Deployment":
            assert document["spec"]["selector"]["matchLabels"] in labels
    for _, pod in pods(documents):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for part in spec["containers"]:
            assert {mount["name"] for mount in part.get("volumeMounts", [])} <= volumes
            assert "memory" in part["resources"]["limits"] and "memory" in part["resources"]["requests"]
            for source in part.get("envFrom", []):
                assert ("ConfigMap", source["configMapRef"]["name"]) in documents
            if part["image"].startswith("foldatlas:"):  # the image has a user of its own
                security = {**spec.get("securityContext", {}), **part.get("securityContext", {})}
                assert security["runAsNonRoot"] is True and security["runAsUser"] == 10001


@pytest.mark.parametrize(("name", "holder"), [("dask.yaml", "worker"), ("flink.yaml", "python-worker-pool")])
def test_only_the_container_that_folds_has_a_gpu(name: str, holder: str) -> None:
    limits = {
        part["name"]: part["resources"]["limits"].get(GPU, 0)
        for _, pod in pods(manifests(name))
        for part in pod["spec"]["containers"]
    }
    assert {part for part, gpus in limits.items() if gpus} == {holder}
    assert limits[holder] == 1


def commands(name: str) -> dict[str, list[str]]:
    """Container -> its command."""
    return {
        part["name"]: part["command"]
        for _, pod in pods(manifests(name))
        for part in pod["spec"]["containers"]
        if "command" in part
    }


def test_dask_is_started_as_its_programs_understand() -> None:
    pytest.importorskip("distributed")
    from distributed.cli import dask_scheduler, dask_worker

    found = commands("dask.yaml")
    for role, program in (("scheduler", dask_scheduler.main), ("worker", dask_worker.main)):
        assert found[role][:2] == ["dask", role]
        values = program.make_context(role, found[role][2:]).params
        assert values["dashboard"] is False
        if role == "scheduler":
            assert (values["protocol"], values["port"]) == ("tls", "8786")
        else:
            assert values["scheduler"] == "tls://foldatlas-scheduler:8786"
            assert (values["nthreads"], str(values["n_workers"]), values["memory_limit"]) == (1, "1", "0")
            (preload,) = values["preload"]
            assert preload == "foldatlas.pipeline.engines.dask.preload"
    engine = engine_of(found["fold"][1:])
    assert engine.runner == "DaskRunner"
    assert engine.options == ("--dask_client_address=tls://foldatlas-scheduler:8786",)


def dask_security(environment: dict[str, str]) -> tuple[bool, list[dict[str, str]]]:
    """What a program of Dask's that is started with `environment` makes of it: whether it insists on encryption, and
    the files of scheduler, worker and client."""
    pytest.importorskip("distributed")
    script = (
        "import json; from distributed.security import Security; security = Security();"
        "roles = [security.get_tls_config_for_role(role) for role in ('scheduler', 'worker', 'client')];"
        "print(json.dumps([security.require_encryption, roles]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    encrypted, roles = json.loads(done.stdout)
    return encrypted, roles


def test_dask_refuses_clients_without_the_certificate() -> None:
    documents = manifests("dask.yaml")
    environment = documents["ConfigMap", "foldatlas-dask"]["data"]
    encrypted, roles = dask_security(environment)
    assert encrypted
    for role in roles:
        assert (role["ca_file"], role["cert"], role["key"]) == ("/tls/ca.pem", "/tls/cert.pem", "/tls/key.pem")
    for _, pod in pods(documents):
        (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "tls"]
        assert volume["secret"]["secretName"] == "foldatlas-tls"
        (part,) = pod["spec"]["containers"]
        assert {"name": "tls", "mountPath": "/tls", "readOnly": True} in part["volumeMounts"]
        assert part["envFrom"] == [{"configMapRef": {"name": "foldatlas-dask"}}]


def test_flinks_parts_find_each_other() -> None:
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    documents = manifests("flink.yaml")
    parts = {part["name"]: part for _, pod in pods(documents) for part in pod["spec"]["containers"]}
    engine = engine_of(parts["fold"]["command"][1:])
    options = dict(option.removeprefix("--").split("=", 1) for option in engine.options)
    pool = parts["python-worker-pool"]
    assert options["environment_type"] == "EXTERNAL"
    assert options["environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    assert pool["args"] == ["--worker_pool"] and pool["image"] == "foldatlas:beam"
    workers = documents["Deployment", "foldatlas-flink-taskmanager"]["spec"]["replicas"]
    assert int(options["parallelism"]) == workers
    server = dict(text.removeprefix("--").split("=", 1) for text in parts["jobserver"]["args"])
    assert options["job_endpoint"] == f"foldatlas-flink-jobserver:{server['job-port']}"
    assert server["flink-master"] == "foldatlas-flink-jobmanager:8081"
    properties = yaml.safe_load(documents["ConfigMap", "foldatlas-flink"]["data"]["FLINK_PROPERTIES"])
    assert properties["taskmanager.numberOfTaskSlots"] == 1  # a slot is a GPU
    assert ("Service", properties["jobmanager.rpc.address"]) in documents
    found = re.fullmatch(r"apache/beam_flink([\d.]+)_job_server:([\d.]+)", parts["jobserver"]["image"])
    assert found and found[1] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert found[2] == version("apache-beam")
    assert {parts[name]["image"].partition(":")[2].partition("-")[0] for name in ("jobmanager", "taskmanager")} == {
        found[1]
    }


def instructions(path: Path) -> list[list[str]]:
    """The words of every instruction of a Dockerfile."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line.strip()]


def extras() -> dict[str, list[str]]:
    tree = ast.parse((ROOT / "setup.py").read_text())
    (value,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXTRAS"
    ]
    found = ast.literal_eval(value)
    assert isinstance(found, dict)
    return found


def check_installs(text: str) -> None:
    """Every `pip install` keeps to constraints.txt, and asks for extras that there are."""
    installs = [line for line in text.splitlines() if "pip install" in line and not line.lstrip().startswith("#")]
    assert installs
    assert all(" -c /src/constraints.txt " in line for line in installs)
    for names in re.findall(r'"/src\[([\w,]+)\]"', text):
        assert set(names.split(",")) <= set(extras())


@pytest.mark.parametrize("name", ["Dockerfile", "dataflow/Dockerfile"])
def test_containers_are_built_of_what_there_is(name: str) -> None:
    words = instructions(DEPLOY / name)
    defaults = dict(part[1].partition("=")[::2] for part in words if part[0] == "ARG")
    # a name on the engine's own default place, or none: no address of a registry
    assert all("." not in image.partition("/")[0] or "/" not in image for image in defaults.values())
    for part in words:
        if part[0] == "FROM":
            variable = re.fullmatch(r"\$\{(\w+)\}", part[1])
            assert part[1] in {other[3] for other in words if other[0] == "FROM" and len(other) > 3} or (
                variable and variable[1] in defaults
            )
        if part[0] == "COPY" and not part[1].startswith("--from"):
            for source in part[1:-1]:
                assert (ROOT / source).exists(), source
    users = [part[1] for part in words if part[0] == "USER"]
    assert users[-1] == "foldatlas"
    beam = defaults.get("BEAM_IMAGE", f":{version('apache-beam')}")
    assert beam.endswith(f":{version('apache-beam')}")
    check_installs((DEPLOY / name).read_text())


def test_the_context_of_the_image_has_what_is_copied() -> None:
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        source
        for part in instructions(DEPLOY / "Dockerfile")
        if part[0] == "COPY" and not part[1].startswith("--from")
        for source in part[1:-1]
    }
    assert copied == sent


def test_the_apptainer_image_is_built_of_what_there_is() -> None:
    text = (DEPLOY / "foldatlas.def").read_text()
    files = text.partition("%files\n")[2].partition("\n\n")[0]
    pairs = [line.split() for line in files.splitlines()]
    assert len(pairs) == 11
    for source, target in pairs:
        assert (ROOT / source).exists() and target == f"/src/{source}"
    check_installs(text)
    base = dict(part[1].partition("=")[::2] for part in instructions(DEPLOY / "Dockerfile") if part[0] == "ARG")
    assert f"From: {base['PYTHON_IMAGE']}\n" in text


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that runs the job here and now, once for each task of an array, and a `foldatlas` on PATH. Gives the
    file in which sbatch keeps what it was asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "sbatch.jsonl"
    sources = {
        "foldatlas": f'#!/bin/sh\nexec "{sys.executable}" -m foldatlas.jobs.cli "$@"\n',
        "sbatch": f"""#!{sys.executable}
import json, os, subprocess, sys
options, job = sys.argv[1:], sys.stdin.read()
with open({str(log)!r}, "a") as file:
    print(json.dumps([options, job]), file=file)
array = [option.partition("=")[2] for option in options if option.startswith("--array=")]
tasks = range(int(array[0].partition("-")[2].partition("%")[0]) + 1) if array else [None]
for task in tasks:
    extra = {{}} if task is None else {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(len(tasks))}}
    subprocess.run(["bash", "-c", job], env={{**os.environ, **extra}}, stdout=sys.stderr, check=True)
print("4711;cluster")
""",
    }
    for name, text in sources.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return log


ARRAY = DEPLOY / "slurm" / "array.sh"


@pytest.mark.long
def test_an_array_folds_everything_and_indexes(
    slurm: Path, tmp_path: Path, short_proteins: str, whole: Path, tables: Callable[[Path], object]
) -> None:  # fmt: skip
    assert ARRAY.stat().st_mode & stat.S_IXUSR
    atlas = tmp_path / "atlas"
    words = ["bash", ARRAY, "3", short_proteins, atlas, "--model", "nano"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("array.sh: array job 4711 of 3 tasks, then index job 4711; watch:")
    fold, index = [json.loads(line) for line in slurm.read_text().splitlines()]
    assert "--array=0-2" in fold[0] and "--signal=B:TERM@120" in fold[1] and "--requeue" in fold[1]
    assert "gpu" not in fold[1] and "--mem=8G" in fold[1]  # nano needs none
    assert "--dependency=afterany:4711" in index[0]
    assert tables(atlas) == tables(whole)


ASKED = {
    "gpu": (["--model", "esmfold_v1"], {}, "--gres=gpu:1", "--mem=32G"),
    "nano on a gpu": (["--model=nano", "--device=cuda"], {}, "--gres=gpu:1", "--mem=32G"),
    "large on a cpu": (["--model", "esmfold_v1", "--device", "cpu"], {}, "", "--cpus-per-task=8"),
    "gpu by variable": (["--model", "esmfold_v1"], {"SBATCH_GPUS_PER_NODE": "1"}, "", "--mem=32G"),
    "gpu by argument": (["--model", "esmfold_v1", "--sbatch-gres=gpu:a100:1"], {}, "", "--mem=32G"),
}


@pytest.mark.parametrize("name", ASKED)
def test_array_requests_what_device_and_model_need(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The defaults stand in the job script, where SBATCH_ variables override them, never on sbatch's command line."""
    words, environment, gpu, line = ASKED[name]
    (slurm.parent / "bin" / "foldatlas").write_text("#!/bin/sh\n")
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    both = ["--sbatch-partition=p", "--sbatch-exclusive", "--index-sbatch-mem=1G"]
    command = ["bash", ARRAY, "2%1", "it's a.fasta", tmp_path / "a b", *words, *both]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fold, index = [json.loads(text) for text in slurm.read_text().splitlines()]
    given = [f"--gres={word.partition('=')[2]}" for word in words if word.startswith("--sbatch-gres")]
    assert fold[0] == ["--parsable", "--array=0-1%1", "--partition=p", "--exclusive", *given]
    assert index[0] == ["--parsable", "--dependency=afterany:4711", "--partition=p", "--exclusive", "--mem=1G"]
    assert re.findall(r"^#SBATCH (--gres.*)$", fold[1], re.MULTILINE) == ([gpu] if gpu else [])
    assert f"#SBATCH {line}\n" in fold[1]
    assert "gres" not in index[1]


@pytest.mark.parametrize(
    "words", [[], ["4"], ["0", "a", "b"], ["x", "a", "b"], ["2%", "a", "b"], ["2", "a", "--sbatch-mem=1"]]
)
def test_the_array_refuses_what_it_cannot_read(slurm: Path, words: list[str]) -> None:
    done = subprocess.run(["bash", ARRAY, *words], capture_output=True, text=True)
    assert done.returncode == 2 and "array.sh" in done.stderr
    assert not slurm.exists()


def test_dask_on_slurm_makes_commands_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    script = module(DEPLOY / "slurm" / "dask_cluster.py")
    asked = script.parse(["--gpus", "4", "--partition", "gpu", "--", "a.fasta", "atlas", "--model", "nano"])
    assert (asked.gpus, asked.partition) == (4, "gpu")
    words = script.fold_command(asked.fold, "tls://10.0.0.1:8786")
    assert words[0] == "foldatlas"
    assert engine_of(words[1:]) == Engine("DaskRunner", 0, ("--dask_client_address=tls://10.0.0.1:8786",))
    asked = script.parse(["--gpus=4", "--", "a", "b", "--model=nano", "--pae", "--", "--dask_connection_timeout=60"])
    words = script.fold_command(asked.fold, "tls://a:1")
    assert parsed(words[1:]).pae
    assert engine_of(words[1:]).options[1:] == ("--dask_connection_timeout=60",)
    assert script.parse(["--gpus=1", "--sbatch-qos=low", "--", "a"]).sbatch == ["--qos=low"]
    with pytest.raises(SystemExit):
        script.parse(["--gpus", "4"])
    assert "nothing to fold" in capsys.readouterr().err


def test_keys_are_private_and_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    environment = make_keys(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    encrypted, roles = dask_security(environment)
    assert encrypted
    for role in roles:
        context = ssl.create_default_context(cafile=role["ca_file"])
        context.load_cert_chain(role["cert"], role["key"])  # the two belong together and are signed by the authority
    with pytest.raises(UsageError, match="exists: give another folder"):
        make_keys(tmp_path)
    assert make_keys_and_say([str(tmp_path / "more")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert dict(line.removeprefix("export ").split("=", 1) for line in lines).keys() == environment.keys()


def test_the_template_asks_for_what_its_launcher_takes() -> None:
    launch = module(DEPLOY / "dataflow" / "launch.py")
    metadata = json.loads((DEPLOY / "dataflow" / "metadata.json").read_text())
    assert set(metadata) == {"name", "description", "parameters"}
    parameters = {parameter["name"]: parameter for parameter in metadata["parameters"]}
    assert tuple(parameters) == (*launch.REQUIRED, *launch.OPTIONAL)
    assert {name for name, parameter in parameters.items() if parameter.get("isOptional")} == set(launch.OPTIONAL)
    for parameter in parameters.values():
        assert {"name", "label", "helpText", "regexes"} <= set(parameter)
    sample = {"fasta": "gs://b/x.fasta", "atlas": "s3://b/atlas", "model": "nano", "device": "cpu", "precision": "bf16",
              "max_length": "600"}  # fmt: skip
    for name, value in sample.items():
        assert all(re.search(pattern, value) for pattern in parameters[name]["regexes"])
    beam = ["--project=my-project", "--region=r", "--temp_location=gs://bucket/t", "--sdk_container_image=i"]
    given = [*beam[:2], "--runner=DataflowRunner", *(f"--{name}={value}" for name, value in sample.items()), *beam[2:]]
    words = launch.fold_arguments(given)
    arguments = parsed(words)
    assert (arguments.fasta, arguments.atlas, arguments.model) == (["gs://b/x.fasta"], "s3://b/atlas", "nano")
    assert (arguments.device, arguments.precision, arguments.max_length) == ("cpu", "bf16", 600)
    assert arguments.runner == "DataflowRunner" and list(arguments.beam_options) == beam
    assert parsed(launch.fold_arguments([f"--{name}={sample[name]}" for name in launch.REQUIRED])).device == "cuda"
    with pytest.raises(SystemExit, match="missing template parameters: atlas, model"):
        launch.fold_arguments(["--fasta=a"])


def test_every_file_says_whether_it_was_run() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) >= 10
    for path in files:
        if path.name not in ("Dockerfile.dockerignore", "launch.py"):
            assert "BY US" in path.read_text(), path.name
        if path.suffix == ".sh":
            subprocess.run(["bash", "-n", path], check=True)


def test_the_unit_of_the_server_lets_sql_confine_itself() -> None:
    """Its command is one of `foldatlas`, and the calls are named: @system-service of systemd 252 lacks them."""
    unit = (DEPLOY / "systemd" / "foldatlas-serve.service").read_text()
    [command] = re.findall(r"^ExecStart=\S+/foldatlas (.*)$", unit, re.MULTILINE)
    arguments = parsed(command.replace("${ATLAS}", "atlas").replace("%d", "/run/credentials").split())
    assert (arguments.command, arguments.token_file) == ("serve", "/run/credentials/tokens")
    [allowed] = re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE)
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"} <= set(allowed.split())
