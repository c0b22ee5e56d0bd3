"""``bootproof explain FILE``: from any place where the text of a console is kept, to the page and the exit status."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main

CONSOLES = Path(__file__).parents[2] / "consoles"
GOOD = (CONSOLES / "ubuntu-24.04.good.log").read_bytes()
BAD = (CONSOLES / "debian-11.crash.log").read_bytes()
BAD_LINE = BAD.decode().splitlines()[31]

Explain = Callable[..., tuple[int, str]]


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(*arguments: object) -> tuple[int, str]:
        status = main(["explain", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-cq"], input=content, check=True, capture_output=True).stdout


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return packed.getvalue()


SOSREPORT = {
    "sosreport-web7/version.txt": b"version: 4.5.5\n",
    "sosreport-web7/sos_commands/kernel/dmesg": BAD,
    "sosreport-web7/sos_commands/logs/journalctl_--no-pager_--boot": GOOD,
    "sosreport-web7/sos_commands/logs/journalctl_--list-boots": b"-1 0123 Sun 2026-11-29\n",
    "sosreport-web7/var/log/messages": b"Nov 29 05:35:02 web7 kernel: EXT4-fs error (device sda2): ext4_lookup:1855\n",
    "sosreport-web7/var/log/boot.log": b"",
    "sosreport-web7/etc/sysconfig/console.log": BAD,
}


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_good_log_gives_0_and_a_bad_one_1_with_its_cause_in_the_first_lines(explain: Explain, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(GOOD)
    bad.write_bytes(BAD)

    status, page = explain(good)
    assert (status, page) == (0, f"{good}: 1 boot, with no finding\n  boot 1: reached the login prompt, no finding\n")
    status, page = explain(bad)
    assert status == 1
    lines = page.splitlines()
    assert lines[0] == f"{bad}: 1 boot, failed"
    assert lines[2] == "    failed first: the kernel panicked [kernel-panic], line 32"
    assert f"      > {BAD_LINE[:80]}" in page
    assert "\n    most likely: " in page
    assert "      - bootproof boot IMAGE --boot-path direct: does the same image fail here?\n" in page
    assert len(lines) <= 25


@pytest.mark.parametrize("file", sorted(CONSOLES.glob("*.log")), ids=lambda file: file.stem)
def test_the_page_of_one_boot_has_25_lines_at_most(file: Path, explain: Explain) -> None:
    status, page = explain(file)

    planted = file.name.split(".")[-2]
    assert status == (planted != "good")
    assert len(page.splitlines()) <= 25
    assert max(map(len, page.splitlines())) < 250


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstd, lambda content: zstd(gzip.compress(content))],
    ids=["gzip", "bzip2", "xz", "zstd", "gzip in zstd"],
)
def test_a_compressed_log_or_tar_is_read_whatever_its_name(
    pack: Callable[[bytes], bytes], explain: Explain, tmp_path: Path
) -> None:
    log, report = tmp_path / "log", tmp_path / "report"
    log.write_bytes(pack(BAD))
    report.write_bytes(pack(tar(SOSREPORT)))

    status, page = explain(log)
    assert (status, "[kernel-panic], line 32" in page) == (1, True)
    status, page = explain(report)
    assert (status, "[kernel-panic], line 32" in page, "[disk-error], line 1" in page) == (1, True, True)


@pytest.mark.parametrize(
    "make", [lay_out, lambda folder, files: lay_out(folder, {"report.tar": tar(files)}) / "report.tar"]
)
def test_of_a_sosreport_the_logs_are_read_and_nothing_else(
    make: Callable[[Path, dict[str, bytes]], Path], explain: Explain, tmp_path: Path
) -> None:
    status, text = explain(make(tmp_path, SOSREPORT), "--json")

    logs = {log["name"].partition("sosreport-web7/")[2]: log["boots"] for log in json.loads(text)}
    assert status == 1
    assert {name: [boot["cause"] for boot in boots] for name, boots in logs.items()} == {
        "sos_commands/kernel/dmesg": ["kernel-panic"],
        "sos_commands/logs/journalctl_--no-pager_--boot": [""],
        "var/log/messages": ["disk-error"],
    }


def test_the_same_cause_in_a_second_file_is_one_line(explain: Explain, tmp_path: Path) -> None:
    lay_out(tmp_path, {"127.0.0.1-2026-11-29/vmcore-dmesg.txt": BAD, "dmesg": BAD.replace(b"[    2", b"[    3")})

    _, page = explain(tmp_path)

    assert page.count("most likely:") == 1
    assert "[kernel-panic] as above, line 32" in page


@pytest.mark.parametrize("name", ["dmesg-efi-1764394502{part:02}001", "dmesg-erst-{part}"])
def test_the_parts_of_a_dump_in_pstore_are_one_log(name: str, explain: Explain, tmp_path: Path) -> None:
    lines = BAD.splitlines(keepends=True)
    for part, begin in ((3, 0), (2, 20), (1, 40)):
        content = b"Panic#1 Part%d\n" % part + b"".join(lines[begin : begin + 20])
        (tmp_path / name.format(part=part)).write_bytes(content)

    status, text = explain(tmp_path, "--json")

    (log,) = json.loads(text)
    (boot,) = log["boots"]
    assert (status, boot["cause"], boot["findings"][0]["quote"]["line"]) == (1, "kernel-panic", 32 + 2)
    assert boot["findings"][0]["context"][-1] == lines[30].decode().strip()


def test_a_run_of_bootproof_is_read_by_its_consoles(explain: Explain, tmp_path: Path) -> None:
    stamped = b"".join(b"[%8.2f] %s" % (number / 10, line) for number, line in enumerate(BAD.splitlines(keepends=True)))
    lay_out(tmp_path, {"machine/boot-1/console.log": stamped, "events.jsonl": b"{}\n", "machine/boot-1/qmp.log": BAD})

    status, page = explain(tmp_path)

    assert (status, page.count("[kernel-panic], line 32"), page.count("qmp.log")) == (1, 1, 0)


def test_standard_input_is_read(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(BAD)))))

    status, page = explain("-")

    assert (status, page.splitlines()[0]) == (1, "standard input: 1 boot, failed")


def test_boots_of_one_cause_are_shown_once_and_the_latest_in_full(explain: Explain, tmp_path: Path) -> None:
    begin = b"[    0.000000] Linux version 6.12.1\n"
    log = tmp_path / "conserver.log"
    log.write_bytes(GOOD * 3 + (begin + BAD) * 4 + GOOD + begin + BAD + b"[    0.000000] Linux version 6.12.1\n")

    status, page = explain(log)

    assert status == 1
    assert page.splitlines()[0] == f"{log}: 10 boots, 5 failed, 1 not seen to become ready, 4 with no finding"
    assert page.count("most likely:") == 1
    assert "boot 9 of 10" in page
    assert "the same in boots 4 to 7\n" in page
    assert "boots 1 to 3, 8: reached the login prompt, no finding" in page


def test_an_end_that_no_pattern_explains_is_unknown(explain: Explain, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("[    0.000000] Linux version 6.12.1\n[    2.1] Run /init as init process\n[    9.3] waiting\n")

    status, page = explain(log)

    assert status == 0
    assert "ends in the initrd, after line 3; no known pattern: if it stopped there, why is unknown\n" in page
    assert "      | [    9.3] waiting\n" in page


def test_what_recovered_is_mentioned_as_harmless(explain: Explain, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"iPXE 1.0.0\nhttp://10.0.0.1/a... Connection refused (http://ipxe.org/02002098)\n" + GOOD + BAD)

    _, page = explain(log)

    assert "recovered, so harmless: ipxe-download-failed (line 2)\n" in page


def test_a_text_that_is_no_console_has_no_finding(explain: Explain, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")

    status, page = explain(tmp_path / "notes.txt")

    assert (status, "shows no stage of a boot that is known" in page) == (0, True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read: it is empty"),
        (bytes(range(128, 256)) * 100, "cannot be read: it is not a text"),
        (gzip.compress(b""), "cannot be read: it is empty"),
        (gzip.compress(BAD)[:20], "cannot be read: Compressed file ended"),
        (tar({"notes.txt": b"milk\n"}), "contains no file with the text of a console"),
    ],
    ids=["empty", "binary", "empty gzip", "cut gzip", "tar without logs"],
)
def test_what_cannot_be_read_is_a_sentence_and_status_4(
    content: bytes, reason: str, explain: Explain, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)

    status, message = explain(tmp_path / "file")

    assert (status, message.count("\n")) == (4, 1)
    assert f"{tmp_path / 'file'} {reason}" in message


def test_a_file_of_a_folder_that_cannot_be_read_is_named_and_the_others_are_judged(
    explain: Explain, tmp_path: Path
) -> None:
    lay_out(tmp_path, {"dmesg": b"\x80\x81" * 1000, "messages": BAD})

    status, page = explain(tmp_path)

    assert (status, "[kernel-panic], line 32" in page) == (1, True)
    assert f"{tmp_path}/dmesg: not read: it is not a text" in page


def test_a_missing_file_or_empty_folder_is_a_sentence_and_status_4(explain: Explain, tmp_path: Path) -> None:
    missing = tmp_path / "console.log"

    assert explain(missing) == (4, f"bootproof: {missing} cannot be read: No such file or directory\n")
    status, message = explain(tmp_path)
    assert (status, "contains no file with the text of a console" in message) == (4, True)


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lzma.compress], ids=["gzip", "zstd", "xz"])
def test_of_a_log_that_was_cut_off_what_is_there_is_judged(
    pack: Callable[[bytes], bytes], explain: Explain, tmp_path: Path
) -> None:
    lines = [b"[%12.6f] usb %d-%d: new device %x\n" % (n / 7, n % 9, n % 7, n * n * 7919) for n in range(40_000)]
    packed = pack(BAD + b"".join(lines))
    (tmp_path / "file").write_bytes(packed[: len(packed) * 4 // 5])

    status, page = explain(tmp_path / "file")

    assert (status, "[kernel-panic], line 32" in page) == (1, True)
    assert "read only in part: cut off or damaged: " in page


def test_the_documentation_shows_what_is_printed(
    explain: Explain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = (CONSOLES / "ubuntu-24.04.unit-dependency-failed.log").read_text("utf-8")
    (tmp_path / "console.log").write_text(recorded.partition("\n")[2], "utf-8")
    monkeypatch.chdir(tmp_path)

    _, page = explain("console.log")

    shown = (Path(__file__).parents[3] / "docs" / "explain.md").read_text("utf-8")
    assert "".join(f"    {line}\n" for line in page.splitlines()) in shown


def test_json_is_for_logs(explain: Explain) -> None:
    assert explain("boot-hangs", "--json")[0] == explain("--json")[0] == 4


def test_the_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--help"])

    assert "journalctl -o export | bootproof explain -" in capsys.readouterr().out
