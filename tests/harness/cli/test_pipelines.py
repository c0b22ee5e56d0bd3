"""The example pipelines: they follow the schemas of their engines, and each command in them exists.

Those that need large packages are checked in tests/system/test_pipelines.py, and the one of Slurm is run.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import parse

ROOT = Path(__file__).parents[3]
FILES = {file.name: file for file in sorted((ROOT / "docs" / "pipelines").iterdir())}
SCHEMAS = {
    "github.yml": "github-workflows",
    "github-shards.yml": "github-workflows",
    "github-again.yml": "github-workflows",
    "gitlab-ci.yml": "gitlab-ci",
    "gitlab-shards.yml": "gitlab-ci",
}
WHOLE_RUNS = ("github.yml", "gitlab-ci.yml", "zuul.yaml")
MATRICES = ("github-shards.yml", "gitlab-shards.yml", "zuul-shards.yaml", "kubernetes.yaml", "Jenkinsfile")
RUNS_IN_SHARDS = (*MATRICES, "slurm.sbatch")
EVERY_FILE = pytest.mark.parametrize("name", FILES)
_COMMAND = re.compile(r"(?:^|[\s'\"])((?:\.venv/bin/|make )[^\n]*)")
_END = re.compile(r"""(["']\)?,?|>>.*|\|\|.*|\s#\s.*|\})*$""")


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(FILES[name].read_text()))


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def lines(name: str) -> Iterator[str]:
    """Lines of the shell in a pipeline, comments included in what is no YAML."""
    is_yaml = FILES[name].suffix in (".yml", ".yaml")
    for text in texts(documents(name)) if is_yaml else [FILES[name].read_text()]:
        yield from re.sub(r"\\\n#?\s*", "", text).splitlines()


def commands(name: str) -> list[list[str]]:
    """The words of each command; what the shell or Ansible puts in is one word, "$@" the options of slurm.sbatch."""
    found = []
    for line in lines(name):
        if command := _COMMAND.search(line):
            text = re.sub(r"\$\{\{.*?\}\}|\{\{.*?\}\}|\\?\$\(.*?\)|\$\{.*?\}", "WORD", command[1])
            text = text.replace('"$@"', "--image nova-kvm --artifacts TREE@DIGEST")
            found.append(shlex.split(_END.sub("", text)))
    return found


def programs(name: str, program: str) -> list[list[str]]:
    return [words[1:] for words in commands(name) if words[0].rpartition("/")[2] == program]


@EVERY_FILE
def test_each_command_in_an_example_exists(name: str, pytestconfig: pytest.Config) -> None:
    for target, *_ in programs(name, "make"):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for arguments in programs(name, "bootproof"):
        parse(arguments)
    for arguments in programs(name, "pytest"):
        known, unknown = pytestconfig._parser.parse_known_and_unknown_args(arguments)  # pytest has no public one
        assert known.image == ["nova-kvm"]
        assert not unknown


@pytest.mark.parametrize("name", WHOLE_RUNS)
def test_a_run_of_one_host_is_made_and_promoted(name: str) -> None:
    assert {words[0].rpartition("/")[2] for words in commands(name)} == {"make", "pytest", "bootproof"}
    assert "promote" in [words[0] for words in programs(name, "bootproof")]


@pytest.mark.parametrize("name", RUNS_IN_SHARDS)
def test_a_run_in_shards_builds_once_plans_and_merges_what_the_pool_signed(name: str) -> None:
    made = {words[0]: words[1:] for words in programs(name, "bootproof")}

    assert [word for word in ("plan", "push", "merge") if word in made] == ["plan", "push", "merge"]
    assert "--trust" in made["merge"]
    assert any("pool.key" in line and "BOOTPROOF_SIGN_KEY" in line for line in FILES[name].read_text().splitlines())
    (shard,) = programs(name, "pytest")
    assert {"--shard", "--plan", "--artifacts"} <= set(shard)


def shards_of(name: str) -> tuple[int, list[int]]:
    """How many shards the plan of a pipeline has, and how many jobs run them, in each place that says so."""
    text = FILES[name].read_text()
    if name == "Jenkinsfile":
        return int(re.findall(r"int shards = (\d+)", text)[0]), [text.count("i <= shards") * 2]
    planned = {"zuul-shards.yaml": r"\bshards: (\d+)"}.get(name, r"--shards (\d+)")
    (count,) = re.findall(planned, text)
    match name:
        case "github-shards.yml":
            jobs = [len(documents(name)[0]["jobs"]["shard"]["strategy"]["matrix"]["shard"])]
        case "gitlab-shards.yml":
            jobs = [documents(name)[0]["shard"]["parallel"]]
        case "zuul-shards.yaml":
            (project,) = [one["project"] for one in documents(name)[0] if "project" in one]
            each = [yaml.safe_dump(pipeline["jobs"]) for pipeline in project.values()]
            jobs = [len(set(re.findall(r"image-shard-\d", jobs))) for jobs in each]
        case _:
            job = indexed_job(name)
            jobs = [job["completions"], job["parallelism"]]
    return int(count), jobs


def indexed_job(name: str) -> Any:
    (found,) = [one["spec"] for one in documents(name) if one["spec"].get("completionMode") == "Indexed"]
    return found


@pytest.mark.parametrize("name", MATRICES)
def test_there_are_as_many_jobs_as_shards(name: str) -> None:
    planned, jobs = shards_of(name)

    assert set(jobs) == {planned}


def test_status_75_is_tried_again_where_the_engine_can_tell_it() -> None:
    assert documents("gitlab-shards.yml")[0]["shard"]["retry"]["exit_codes"] == [75]
    job = indexed_job("kubernetes.yaml")
    assert job["backoffLimitPerIndex"] == 2
    lost, status = job["podFailurePolicy"]["rules"]
    assert (lost["action"], status["action"]) == ("Ignore", "FailIndex")
    (container,) = job["template"]["spec"]["containers"]
    assert status["onExitCodes"] == {"containerName": container["name"], "operator": "NotIn", "values": [75]}
    assert "&& status == 75" in FILES["Jenkinsfile"].read_text()
    (play,) = [one for one in documents("zuul-shards.yaml")[2] if one["hosts"] == "prover"]
    assert [task["failed_when"] for task in play["tasks"] if "failed_when" in task] == ["part.rc == 75"]


def test_the_job_for_kvm_differs_only_in_the_device() -> None:
    plain, kvm = indexed_job("kubernetes.yaml"), indexed_job("kubernetes-kvm.yaml")
    (container,) = kvm["template"]["spec"]["containers"]

    assert container["resources"]["limits"].pop("devices.kubevirt.io/kvm") == "1"
    container["args"] = [text.replace("--accel kvm ", "") for text in container["args"]]
    assert kvm == plain


def check(file: Path, schema: str) -> tuple[int, str]:
    program = Path(sys.executable).with_name("check-jsonschema")
    argv = [str(program), "--builtin-schema", f"vendor.{schema}", str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_pipeline_follows_the_schema_of_its_engine(name: str) -> None:
    status, text = check(FILES[name], SCHEMAS[name])

    assert status == 0, text


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("gitlab-shards.yml", "exit_codes:", "exit_code:"), ("github-shards.yml", "fail-fast:", "failfast:")],
)
def test_a_key_that_is_misspelled_is_found(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name].read_text().replace(right, wrong))

    status, text = check(tmp_path / name, SCHEMAS[name])

    assert status == 1
    assert wrong.rstrip(":") in text
