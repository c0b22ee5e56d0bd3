"""Which shell `make test` gives to shellcheck; shellcheck itself need not be installed here."""

from __future__ import annotations

from pathlib import Path

from ..shellcheck import ROOT, fragments, main, scripts

TASKS = """
- hosts: all
  tasks:
    - ansible.builtin.shell: |
        echo {{ one | quote }}
    - block:
        - ansible.builtin.shell: { cmd: "cd /x" }
    - ansible.builtin.copy: { dest: /usr/lib/persist/config, content: "paths=({{ paths }})" }
"""


def test_scripts_are_found_by_their_first_line() -> None:
    found = {str(path.relative_to(ROOT)) for path in scripts()}

    persist = "images/roles/persist/files/usr/lib"
    assert {f"{persist}/persist/persist", f"{persist}/persist/guard", "tests/bench/by-hand.sh", ".ci/run"} <= found


def test_shell_in_tasks_is_found_at_any_depth_with_words_for_expressions(tmp_path: Path) -> None:
    file = tmp_path / "images" / "roles" / "x.yml"
    file.parent.mkdir(parents=True)
    file.write_text(TASKS)

    shell, command, config = (text for _, text in fragments(tmp_path))

    assert shell == "#!/bin/sh\necho word\n\n"
    assert command == "#!/bin/sh\ncd /x\n"
    assert config.startswith("#!/bin/bash\n")
    assert config.endswith("paths=(word)\n")


def test_the_shell_of_the_roles_is_found() -> None:
    names = [name for name, _ in fragments()]

    assert [name for name in names if name.startswith("images:roles:persist:")]
    assert [name for name in names if name.startswith("images:roles:base:")]


def test_a_program_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    assert main(tmp_path, str(tmp_path)) == 1


def test_shellcheck_gets_scripts_and_shell_of_tasks_and_its_status_counts(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "x.yml").write_text(TASKS)
    (tmp_path / "tests" / "script").write_text("#!/bin/sh\ntrue\n")
    program = tmp_path / "bin" / "shellcheck"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\nprintf "%s\\n" "${@##*/}" >given; exit 3\n')
    program.chmod(0o755)

    assert main(tmp_path, str(program.parent)) == 3
    assert (tmp_path / "given").read_text().split() == ["script", "tests:x.yml:1", "tests:x.yml:2", "tests:x.yml:3"]
