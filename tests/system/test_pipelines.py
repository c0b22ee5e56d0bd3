"""The example pipelines, as programs of their engines read them, which are large and installed aside; and what their
jobs for a shard do, with another program in the place of pytest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT

PIPELINES = ROOT / "docs" / "pipelines"
PARSE_GROOVY = (
    "import sys; from groovy_parser.parser import parse_groovy_content; parse_groovy_content(open(sys.argv[1]).read())"
)
READERS = {
    "zuul.yaml": ("zuul", ["python", str(Path(__file__).with_name("read_zuul.py"))], ("timeout:", "time-out:")),
    "zuul-shards.yaml": ("zuul", ["python", str(Path(__file__).with_name("read_zuul.py"))], ("attempts:", "tries:")),
    "kubernetes.yaml": (
        "kubernetes-validate",
        ["kubernetes-validate", "--strict"],
        ("backoffLimitPerIndex:", "backoffLimitByIndex:"),
    ),
    "kubernetes-kvm.yaml": ("kubernetes-validate", ["kubernetes-validate", "--strict"], ("completions", "count")),
    "Jenkinsfile": ("groovy-parser", ["python", "-c", PARSE_GROOVY], ("catchError(", "catchError[")),
}
"""By file: the package that reads it, the command, and a mistake that the command finds."""

Install = Callable[[str], Path]


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    """``install("zuul")`` is the folder of the programs of an environment that has this package."""
    folder, installed = tmp_path_factory.mktemp("readers"), dict[str, Path]()

    def install(package: str) -> Path:
        if package not in installed:
            subprocess.run([sys.executable, "-m", "venv", str(folder / package)], check=True)
            programs = folder / package / "bin"
            argv = [str(programs / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-compile", package]
            subprocess.run(argv, check=True)
            installed[package] = programs
        return installed[package]

    yield install
    shutil.rmtree(folder)


def read(programs: Path, command: list[str], file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(programs / command[0]), *command[1:], str(file)], check=False, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", READERS)
def test_a_pipeline_is_read_without_an_error_and_a_mistake_in_it_is_not(
    name: str, install: Install, tmp_path: Path
) -> None:
    package, command, (right, wrong) = READERS[name]
    text = (PIPELINES / name).read_text()
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong, 1))

    status, printed = read(install(package), command, PIPELINES / name)
    spoilt, _ = read(install(package), command, tmp_path / name)

    assert status == 0, printed
    assert spoilt != 0


# Jobs for a shard

PYTEST = """\
#!/bin/sh
for word; do
    case $word in --run-dir=*) folder=${word#--run-dir=} ;; esac
done
mkdir -p "$folder/run"
ln -sfn run "$folder/latest"
echo "$STATUS $*" >"$folder/run/verdict.json"
exit "$STATUS"
"""
PLAN = {"collected": {"images": [{"digests": {"artifacts": "c650002e"}, "versions": ["1f0c6e5d"]}]}}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Where a job for a shard runs, after `make setup`."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "pytest").write_text(PYTEST)
    (folder / ".venv" / "bin" / "pytest").chmod(0o755)
    (folder / "Makefile").write_text("setup:\n")
    (folder / "plan.json").write_text(json.dumps(PLAN))
    return folder


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((PIPELINES / name).read_text()))


def gitlab(checkout: Path) -> tuple[list[str], Path]:
    del checkout
    script = "\n".join(documents("gitlab-shards.yml")[0]["shard"]["script"])
    return ["bash", "-eo", "pipefail", "-c", script], Path("parts/2/run/verdict.json")


def github(checkout: Path) -> tuple[list[str], Path]:
    del checkout
    steps = documents("github-shards.yml")[0]["jobs"]["shard"]["steps"]
    (script,) = [step["run"] for step in steps if "pytest" in step.get("run", "")]
    return ["bash", "-e", "-c", script], Path("parts/latest/verdict.json")


def kubernetes(checkout: Path) -> tuple[list[str], Path]:
    (job,) = [one["spec"] for one in documents("kubernetes.yaml") if one["metadata"]["name"] == "bootproof-shards"]
    (container,) = job["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    local = [word.replace("/shared/", f"{checkout}/").replace("/store/", f"{checkout}/store-") for word in words]
    return local, Path("parts/1/run/verdict.json")


@pytest.mark.parametrize("engine", [gitlab, github, kubernetes])
def test_the_status_of_a_shard_reaches_the_engine_and_the_last_attempt_leaves_its_part(
    engine: Callable[[Path], tuple[list[str], Path]], checkout: Path
) -> None:
    argv, part = engine(checkout)
    numbers = {"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "4", "JOB_COMPLETION_INDEX": "1"}

    for status in (75, 0):
        env = os.environ | numbers | {"TREE": f"{checkout}/tree", "STATUS": str(status)}
        assert subprocess.run(argv, cwd=checkout, env=env, check=False).returncode == status

    (ended,) = (checkout / part).read_text().splitlines()
    assert ended.startswith("0 ")
    assert f"--artifacts {checkout}/tree@c650002e" in ended


GH = """\
#!/bin/sh
[ "$2" = view ] && echo "$FAILED" || echo "$*" >called
"""


@pytest.mark.parametrize(("failed", "called"), [("0", False), ("2", True)])
def test_github_starts_a_run_again_only_if_a_shard_failed(failed: str, called: bool, tmp_path: Path) -> None:
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    ((step,),) = (job["steps"] for job in documents("github-again.yml")[0]["jobs"].values())
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUN": "7", "FAILED": failed}

    subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=env, check=True)

    assert (tmp_path / "called").exists() == called
    assert not called or (tmp_path / "called").read_text() == "run rerun 7 --failed\n"


@pytest.mark.parametrize(("status", "returned"), [(0, {}), (75, {}), (4, {"zuul": {"retry": False}})])
def test_zuul_tries_a_shard_again_only_for_status_75(
    status: int, returned: dict[str, Any], install: Install, checkout: Path, tmp_path: Path
) -> None:
    programs = install("zuul")
    subprocess.run([str(programs / "pip"), "install", "--quiet", "ansible-core"], check=True)
    (returns,) = (programs.parent / "lib").glob("python*/site-packages/zuul/ansible/base/action/zuul_return.py")
    (tmp_path / "actions").mkdir()
    shutil.copy(returns, tmp_path / "actions")
    (tmp_path / "shard.yaml").write_text(yaml.safe_dump(documents("zuul-shards.yaml")[2]))
    plan = {"name": "plan", "url": f"file://{checkout}/plan.json", "metadata": {"type": "bootproof-plan"}}
    result = tmp_path / "work" / "results.json"
    result.parent.mkdir()
    result.touch()
    zuul = {"project": {"src_dir": str(checkout)}, "artifacts": [plan]}
    variables = {"zuul": zuul, "shard": 2, "shards": 4, "tree": f"{checkout}/tree", "image_digest": "c650002e"}
    variables["ansible_python_interpreter"] = str(programs / "python")
    own = {"ANSIBLE_ACTION_PLUGINS": str(tmp_path / "actions"), "ZUUL_JOBDIR": str(tmp_path), "STATUS": str(status)}

    done = subprocess.run(
        [str(programs / "ansible-playbook"), "--connection=local", "--inventory=prover,",
         f"--extra-vars={json.dumps(variables)}", str(tmp_path / "shard.yaml")],
        env=os.environ | own, check=False, capture_output=True, text=True,
    )  # fmt: skip

    print(done.stdout, done.stderr)
    assert (done.returncode == 0) == (status == 0)
    assert json.loads(result.read_text() or '{"data": {}}')["data"] == returned
    assert f"{status} -n 8 --image nova-kvm --shard 2/4" in (checkout / "runs" / "latest" / "verdict.json").read_text()
