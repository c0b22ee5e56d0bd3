"""The plugin from the command line: what is collected, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, RunPytest

pytest_plugins = ["pytester"]


def test_image_without_a_path_collects_the_suite(run_pytest: RunPytest) -> None:
    status, text = run_pytest("--collect-only", "-q", "--image", "base")

    assert status == 0, text
    assert "tests/image/test_survival.py::test_data_" in text
    assert "tests/harness" not in text


def test_two_images_are_collected_side_by_side(run_pytest: RunPytest) -> None:
    _, text = run_pytest("--collect-only", "-q", "--image", "base", "--image", "nova-kvm")

    assert "test_service_is_enabled_and_active[base-ssh.service]" in text
    assert "test_service_is_enabled_and_active[nova-kvm-ssh.service]" in text
    assert "that_is_a_link_leads_to_its_place_on_data[nova-kvm-/var/lib/nova]" in text
    assert "that_is_a_link_leads_to_its_place_on_data[base-/var/lib/nova]" not in text


def test_thorough_tests_are_deselected_without_the_option(run_pytest: RunPytest) -> None:
    _, text = run_pytest("--collect-only", "-q", "--image", "base")
    _, thorough = run_pytest("--collect-only", "-q", "--image", "base", "--thorough", "--power-cuts", "3000")

    assert "deselected" in text
    assert "test_power_cuts" not in text
    assert "with_all_its_data[base-2]" in thorough
    assert "with_all_its_data[base-3]" not in thorough
    assert "[base-4k-sectors]" in thorough
    assert "deselected" not in thorough


def test_boot_path_limits_what_is_collected(run_pytest: RunPytest) -> None:
    module = "tests/image/test_survival.py"
    _, every = run_pytest("--collect-only", "-q", "--image", "base", module)
    _, one = run_pytest("--collect-only", "-q", "--image", "base", "--boot-path", "ipxe-bios", module)

    assert "other_boot_paths[base-grub]" in every
    assert "test_data_and_identity_survive_a_power_cut_in_another_board[base]" in one
    assert "other_boot_paths[base-" not in one


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "nova-kvn"], "did you mean nova-kvm?"),
        (["--image", "base", "--hosts", "ssh://somewhere"], "exclude each other"),
        (["--image", "base", "--images-dir", "/nonexistent"], "no image 'base' in /nonexistent"),
        (["--image", "base", "--boot-path", "floppy"], "invalid choice: 'floppy'"),
        (
            ["--image", "base", "--power-cuts", "9"],
            "--power-cuts needs --thorough, without which no power cut is tested",
        ),
        (["--network-fault", "dhcp-late"], "--network-fault needs --image, without which no machine is booted"),
        (["--thorough", "--power-cuts", "9"], "--power-cuts needs --image, without which no machine is booted"),
    ],
)
def test_wrong_option_is_one_sentence_and_status_4(run_pytest: RunPytest, arguments: list[str], sentence: str) -> None:
    status, text = run_pytest(*arguments)

    assert status == 4
    assert sentence in text
    assert "Traceback" not in text


def test_host_refuses_to_test_the_local_machine(run_pytest: RunPytest, tmp_path: Path) -> None:
    test = tmp_path / "test_mine.py"
    test.write_text("def test_mine(host):\n    assert host.file('/').exists\n", "utf-8")

    status, text = run_pytest("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(test))

    assert status == 1
    assert "neither --image nor --hosts was given" in text


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("@pytest.mark.state('upgradet')\ndef test_x(machine): ...", "no state 'upgradet'; known: booted"),
        ("@pytest.mark.state()\ndef test_x(machine): ...", "state takes the name of one state"),
        ("def test_x(host, machine): ...", "use host (shared, read-only) or machine (own, to change), not both"),
        ("def test_x(host, cold_machine): ...", "use host (shared, read-only) or machine (own, to change), not both"),
    ],
)
def test_a_contradictory_test_is_refused_in_one_sentence(
    run_pytest: RunPytest, tmp_path: Path, body: str, sentence: str
) -> None:
    (tmp_path / "test_mine.py").write_text(f"import pytest\n\n{body}\n")
    status, text = run_pytest("--collect-only", "--image", "base", str(tmp_path / "test_mine.py"))

    assert status == 4, text
    assert sentence in text
    assert "Traceback" not in text


def test_a_repositorys_own_state_is_known(run_pytest: RunPytest, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import harness\n\n@harness.state('mine')\ndef mine(machine, versions):\n    machine.check('true')\n"
    )
    (tmp_path / "test_mine.py").write_text("import pytest\n@pytest.mark.state('mine')\ndef test_x(machine): ...\n")
    status, text = run_pytest("--collect-only", "-q", "--image", "base", str(tmp_path / "test_mine.py"))

    assert status == 0, text
    assert "test_x[base]" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--network-fault", "dhcp-lat"), "no network fault 'dhcp-lat'; did you mean dhcp-late?"),
        (("--network-fault", "tftp-slow", "--boot-path", "direct"), "has no effect on boot path direct"),
        (("--network-fault", "link-down=3"), "only dhcp-late and link-late take =SECONDS"),
    ],
)
def test_a_network_fault_that_is_not_valid_is_refused_before_anything_starts(
    run_pytest: RunPytest, arguments: tuple[str, ...], sentence: str
) -> None:
    status, text = run_pytest("--image", "base", *arguments)

    assert status == pytest.ExitCode.USAGE_ERROR
    assert sentence in text
    assert "artifacts" not in text


def test_network_faults_of_the_definition_are_tested_with_thorough(run_pytest: RunPytest) -> None:
    status, text = run_pytest(
        "--collect-only", "-q", "--image", "base", "--thorough", "tests/image/test_network_faults.py"
    )

    assert status == 0, text
    assert "test_a_machine_boots_in_spite_of_the_fault[base-link-lossy]" in text
