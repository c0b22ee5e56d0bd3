"""Goss files are read as goss reads them, and what is not read is named with what would be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import DefinitionError
from harness.model.goss_file import read_goss
from harness.model.rules import GossResource

GOOD = """
file:
  /etc/passwd:
    exists: true
    mode: "0644"
    owner: root
    contents: ["root", "!/^toor:/"]
  the alternative:
    path: /etc/alternatives/mta
    exists: true
    filetype: symlink
    linked-to: {have-prefix: /usr}
  /tmp/none:
    exists: false
    contents: []
service:
  ssh: {enabled: true, running: true}
  other: {running: false, skip: true, title: "later", meta: {sev: 5}}
port:
  tcp:22: {listening: true, ip: ["0.0.0.0"]}
  8080: {listening: false}
package:
  openssh-server: {installed: true, versions: {contain-element: {have-prefix: "1:"}}}
command:
  uname -r: {exit-status: 0, stdout: [6.1], timeout: 5000}
  no output: {exec: true, exit-status: 0, stdout: "", stderr: []}
user:
  nova: {exists: true, uid: {and: [{gt: 50}, {lt: 99999}]}, groups: [nova]}
group:
  kvm: {exists: true, gid: 107}
mount:
  /data: {exists: true, opts: [rw], filesystem: ext4, usage: {lt: 95}, timeout: 1000}
kernel-param:
  net.ipv4.ip_forward: {value: "1"}
process:
  sshd: {running: true}
matching:
  enough: {content: [1.2, 1.3], matches: {have-len: 2}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "goss.yaml"


def by_name(file: Path, text: str) -> dict[str, GossResource]:
    file.write_text(text, "utf-8")
    return {resource.name: resource for resource in read_goss(file, "goss.yaml")}


def test_a_good_file_says_what_it_demands(file: Path) -> None:
    found = by_name(file, GOOD.replace("[6.1]", '["6.1"]'))

    assert len(found) == 16
    passwd = found["goss.yaml file:/etc/passwd"]
    assert (passwd.about, list(passwd.wanted)) == ("/etc/passwd", ["exists", "mode", "owner", "contents"])
    link = found["goss.yaml file:the alternative"]
    assert (link.about, link.wanted["linked-to"]) == ("/etc/alternatives/mta", {"have-prefix": "/usr"})
    assert found["goss.yaml file:/tmp/none"].wanted == {"exists": False}
    other = found["goss.yaml service:other"]
    assert (other.skip, other.title, other.wanted) == (True, "later", {"running": False})
    assert found["goss.yaml port:8080"].about == "8080"
    assert found["goss.yaml command:uname -r"].timeout_s == 5.0
    quiet = found["goss.yaml command:no output"]
    assert (quiet.about, quiet.wanted) == ("true", {"exit-status": 0, "stdout": ""})
    assert found["goss.yaml matching:enough"].wanted == {"matches": {"have-len": 2}, "content": [1.2, 1.3]}


def test_json_is_read_too(file: Path) -> None:
    found = by_name(file, json.dumps({"user": {"nova": {"exists": True}}}))

    assert found["goss.yaml user:nova"].wanted == {"exists": True}


@pytest.mark.parametrize(
    ("text", "key", "sentence"),
    [
        ("file:\n  {{range x}}", "line 2", "is a template, which is not rendered; let goss render it"),
        ("file: [", "syntax", "line 1: expected the node content, but found '<stream end>'; see yaml.org"),
        ("", "syntax", "has no resources"),
        ("- file", "syntax", "has no resources"),
        ("file: {}\nfile: {}", "line 2", "file is given twice; put both below one of them"),
        ("file:\n  /x: {exists: true, exists: false}", "line 2", "exists is given twice"),
        ("? [a]\n: b", "syntax", "see yaml.org"),
        ("dns: {localhost: {resolvable: true}}", "dns", "is not a kind of resource that Bootproof asks a host about"),
        ("http: {'http://x': {status: 200}}", "http", "[[check]], for example by curl"),
        ("addr: {}", "addr", "says nothing about yours"),
        ("interface: {eth0: {exists: true}}", "interface", "the check host looks at interfaces"),
        ("gossfile: {other.yaml: {}}", "gossfile", "name each file in expect.goss"),
        ("files: {}", "files", "did you mean file?"),
        ("file: [/x]", "file", "is not a mapping"),
        ("file: {/x: true}", "file./x", "is not a mapping; for example exists: true"),
        ("file: {/x: {mode: '0644'}}", "file./x.exists", "is missing; for example exists: true"),
        ("file: {/x: {exists: true, mode: 0644}}", "file./x.mode", "420 is not a mode; write four digits in quotes"),
        ("file: {/x: {exists: true, mode: '644'}}", "file./x.mode", "four digits"),
        ("file: {/x: {exists: true, modes: 1}}", "file./x.modes", "did you mean mode?"),
        ("file: {/x: {exists: true, contents: [1]}}", "file./x.contents", "1 is not a pattern"),
        ("file: {/x: {exists: true, size: {gt: 1, lt: 2}}}", "file./x.size", "has 2 matchers"),
        ("file: {x: {exists: true}}", "file.x", "'x' is not valid; for example /etc/passwd"),
        ("file: {~root: {exists: true}}", "file.~root", "is not valid"),
        ("service: {ssh: {}}", "service.ssh", "demands nothing; for example enabled: true"),
        ("service: {ssh: {running: true, runlevels: ['3']}}", "service.ssh.runlevels", "is not an attribute"),
        ("service: {a b: {running: true}}", "service.a b", "is not valid"),
        ("service: {ssh: {running: true, skip: later}}", "service.ssh.skip", "write true or false"),
        ("port: {ssh: {listening: true}}", "port.ssh", "for example tcp:22"),
        ("command: {x: {stdout: [a]}}", "command.x.exit-status", "is missing; for example exit-status: 0"),
        ("command: {x: {exit-status: 0, timeout: 5s}}", "command.x.timeout", "in milliseconds"),
        ("package: {x: {installed: true, versions: [2024-01-02]}}", "package.x.versions", "write it in quotes"),
        ("matching: {x: {content: 2024-01-02, matches: 1}}", "matching.x.content", "write it in quotes"),
        ("matching: {x: {content: &a [*a], matches: 1}}", "matching.x.content", "neither text nor a number"),
        ("user: {x: {exists: {semver-constraint: '>1'}}}", "user.x.exists", "is not a matcher that Bootproof has"),
    ],
)
def test_what_is_not_read_is_a_sentence(file: Path, text: str, key: str, sentence: str) -> None:
    file.write_text(text, "utf-8")

    with pytest.raises(DefinitionError) as caught:
        read_goss(file, "goss.yaml")

    assert (caught.value.file, caught.value.key) == (str(file), key)
    assert sentence in str(caught.value)


def test_a_number_that_goss_cannot_search_for_is_refused(file: Path) -> None:
    file.write_text(GOOD, "utf-8")

    with pytest.raises(DefinitionError, match=r"command\.uname -r\.stdout: 6\.1 is not a pattern; write it in quotes"):
        read_goss(file, "goss.yaml")


def test_a_file_that_is_too_long_is_refused(file: Path) -> None:
    file.write_text("#" * (2 << 20), "utf-8")

    with pytest.raises(DefinitionError, match="more than 1 MiB"):
        read_goss(file, "goss.yaml")
