"""A report shows the verdict, and text of guests only as text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import report
from harness.core import serialization
from harness.core.errors import Blame, HostError
from harness.diff import Change, Diff, DiffEntry, Section, Weight
from harness.diff.value import Named
from harness.model.critical_path import PathStep
from harness.model.guest_contract import GuestContract
from harness.model.host_facts import HostFacts
from harness.model.layout import CRITICAL_PATH
from harness.model.verdict import BootResult, Finding, Outcome, Rate, RuntimeProfile, Unit, UnitWait, Verdict
from harness.report import logs, matrix, waterfall
from harness.report.waterfall import scale_to
from harness.runs.history import Series

from ... import samples

EVIL = "</script></style></textarea><img src=http://evil.example/x onerror=alert(1)>\"'{{ 7 * 7 }}<!--"


class Reader(HTMLParser):
    """The elements and texts that a browser would see."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag not in ("script", "style"):
            self.texts.append(data)
        elif tag == "script" and "type" not in attributes and data.strip():
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    return samples.run(tmp_path)


def unpack(log: logs.Log | None) -> list[str]:
    assert log is not None
    return gzip.decompress(base64.b64decode(log.packed)).decode().split("\n")


def evil(folder: Path) -> Verdict:
    """A verdict in which all text of guests, tests and hosts is hostile."""
    place = folder / "evil" / "boot-1"
    place.mkdir(parents=True)
    (place / "console.log").write_text(f"[    0.10] {EVIL}\n", "utf-8")
    (place / "units.json").write_text(
        json.dumps({f"{EVIL}.service": {"state": EVIL, "begins_s": 0.0, "ready_s": 9.0}}), "utf-8"
    )
    serialization.write(place / CRITICAL_PATH, (PathStep(unit=EVIL, begins_s=1.0, ready_s=9.0, earlier_s=3.0),))
    boot = BootResult(
        machine=EVIL, number=1, boot_path=EVIL, artifacts=EVIL, phases={EVIL: 3.0}, ready_s=3.0,
        console=str(place / "console.log"), added_arguments=(EVIL,), run=EVIL,
        idle_s=8.0, waits=(UnitWait(unit=EVIL, idle_s=8.0, lines=(EVIL,)),),
    )  # fmt: skip
    where = f"{EVIL}, boot 1 ({EVIL})"
    findings = [Finding(id=EVIL, what=EVIL, where=where, evidence=(EVIL, "\udcff\x1b[31m\x00"), cause=EVIL)]
    findings += [Finding(id="x", what=EVIL, where=f"tests/{n}.py::test_x[{EVIL}]", blame=Blame.HOST) for n in "ab"]
    verdict = samples.verdict((boot,), tuple(findings), version=EVIL)
    coverage = replace(verdict.coverage, boot_paths=(EVIL,), missing=(EVIL, f"boot:{EVIL}"), unchecked=(EVIL,))
    return replace(
        verdict, coverage=coverage, image=EVIL, host={EVIL: EVIL}, digests={EVIL: EVIL, "artifacts": EVIL}, started=EVIL
    )


def test_nothing_of_a_guest_or_a_test_becomes_an_element(tmp_path: Path) -> None:
    good = Reader(report.write_page(samples.run(tmp_path / "good"), tmp_path, trends=samples.TRENDS))
    trend = Series(name=EVIL, unit=EVIL, points=((EVIL, 1.0), (EVIL, 2.0)))

    seen = Reader(report.write_page(evil(tmp_path), tmp_path, promoted=evil(tmp_path / "promoted"), trends=[trend]))

    assert {tag for tag, _ in seen.elements} <= {tag for tag, _ in good.elements}
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    assert seen.text.count(EVIL) > 20
    assert "49" not in seen.text


def test_a_page_needs_nothing_else_and_runs_no_script_but_its_own(tmp_path: Path, verdict: Verdict) -> None:
    page = report.write_page(verdict, tmp_path, promoted=samples.promoted(tmp_path), trends=samples.TRENDS)

    seen = Reader(page)

    assert {source.partition(",")[0] for source in seen.values("src")} <= {"data:image/png;base64"}
    assert {link for link in seen.values("href") if not link.startswith("#")} <= {"capture.pcap"}
    assert not [word for word in ("@import", "url(", "http://", "https://") if word in page.read_text("utf-8")]
    [script] = seen.scripts
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [content for content in seen.values("content") if "default-src" in content]
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hashed}';" in policy


def test_a_page_can_be_read_without_seeing_it(tmp_path: Path, verdict: Verdict) -> None:
    seen = Reader(report.write_page(verdict, tmp_path, promoted=samples.promoted(tmp_path), trends=samples.TRENDS))

    ids = seen.values("id")
    assert len(ids) == len(set(ids))
    assert set(seen.values("aria-labelledby") + seen.values("for")) <= {*ids, "query"}
    assert all("scope" in attributes for tag, attributes in seen.elements if tag == "th")
    assert all(attributes["aria-label"] for _, attributes in seen.elements if attributes.get("role") == "img")
    links = [link for link in seen.values("href") if link != "capture.pcap"]
    targets = [link.removeprefix("#").partition("-L")[0] for link in links]
    known = {*ids, *(name.removeprefix("packed-") for name in ids)}
    assert set(targets) <= known


def test_the_verdict_comes_first_and_says_why(tmp_path: Path, verdict: Verdict) -> None:
    text = Reader(report.write_page(verdict, tmp_path)).text

    why = "The image is at fault: the persistent disk could not be taken into use."
    assert 0 < text.index(why) < text.index("Findings", text.index(why)) < text.index("required check ")


@pytest.mark.parametrize(("outcome", "said"), [
    (Outcome.PASSED, "Every required check ran and passed"),
    (Outcome.INCONCLUSIVE, "The harness is at fault: assert '<script>' in out. Did not run, or not completely: id"),
])  # fmt: skip
def test_every_outcome_has_its_reason(tmp_path: Path, verdict: Verdict, outcome: Outcome, said: str) -> None:
    assert said in Reader(report.write_page(replace(verdict, outcome=outcome), tmp_path)).text


def test_a_finding_has_its_next_step_and_a_bundle_the_command_that_reproduces_it(
    tmp_path: Path, verdict: Verdict
) -> None:
    (tmp_path / "host1-boot-2.bundle").touch()
    finding = Finding(id="dhcp-unanswered", what="nobody answered", where="host1, boot 2 (ipxe-bios)")

    seen = Reader(report.write_page(replace(verdict, findings=(finding,)), tmp_path))

    assert "Next: compare the MAC address in network.log with the server's table" in seen.text
    assert "bootproof replay host1-boot-2.bundle" in seen.text
    assert "host1-boot-2.bundle" in seen.values("href")


def test_a_finding_at_many_machines_is_shown_once(tmp_path: Path) -> None:
    verdict = samples.run(tmp_path, machines=30)

    text = Reader(report.write_page(verdict, tmp_path)).text

    assert text.count("no service was started") == 1
    assert "The same at 3 other places" in text


def test_a_check_of_a_boot_path_stands_in_its_column(verdict: Verdict) -> None:
    coverage = replace(verdict.coverage, passed=("boot:direct", "ssh"), failed=(), missing=("boot:kexec", "links"))
    rates = (Rate(check="boot:direct", passed=9, repeats=10, low=0.6, high=0.98),)

    laid = matrix.lay_out(replace(verdict, coverage=coverage, rates=rates))

    assert laid.boot_paths == ("direct", "ipxe-bios", "kexec")
    boots, *others = laid.rows
    assert [(cell.state, cell.rate) for cell in boots.cells] == [
        ("passed", "9 of 10 (60% to 98%)"), ("", ""), ("missing", ""),
    ]  # fmt: skip
    assert [(row.check, row.cells[0].state, row.cells[0].columns) for row in others] == [
        ("links", "missing", 3), ("ssh", "passed", 3),
    ]  # fmt: skip


def test_each_check_has_the_seconds_of_its_tests(verdict: Verdict) -> None:
    assert verdict.cost
    cost = replace(verdict.cost, checks_s={"ssh": 12.5})

    rows = matrix.lay_out(replace(verdict, cost=cost)).rows

    assert {row.took_s for row in rows if row.check == "ssh"} == {12.5}
    assert {row.took_s for row in rows if row.check != "ssh"} == {None}


def test_a_line_of_evidence_is_marked_and_linked_to(tmp_path: Path, verdict: Verdict) -> None:
    bad = next(boot for boot in verdict.boots if boot.ready_s is None)

    log = logs.pack(bad, "boot-x-1", verdict.findings, tmp_path)

    assert log is not None
    assert log.guilty == (samples.GUILTY_LINE - 1, samples.GUILTY_LINE)
    assert list(log.links.values()) == [f"boot-x-1-L{samples.GUILTY_LINE}"]
    assert unpack(log)[samples.GUILTY_LINE - 1].endswith(samples.EVIDENCE[-1])


def test_evidence_is_located_where_most_of_it_is_close_together() -> None:
    said = ["b", "", "a", "x", "b", "spinner", "c", *["x"] * 50, "a"]

    assert logs.locate(["a", "", "b", "\x1b[31mc"], said) == (3, 5, 7)
    assert logs.locate(["never said"], said) == ()
    assert logs.locate([], said) == ()


def test_a_log_is_numbered_as_its_file_and_without_controls(tmp_path: Path, verdict: Verdict) -> None:
    console = tmp_path / "web-0" / "boot-1" / "console.log"
    console.write_bytes(
        b"[    0.10] \x1b[1;31mred\x1b[0m\r\n[    0.20] a\x0bb\x08\xe2\x80\xa8c \xff\n\n[    0.30] end\n"
    )

    assert unpack(logs.pack(verdict.boots[0], "a", (), tmp_path)) == [
        "[    0.10] red", "[    0.20] ab\N{LINE SEPARATOR}c \N{REPLACEMENT CHARACTER}", "", "[    0.30] end",
    ]  # fmt: skip


def test_boots_of_the_same_name_have_anchors_of_their_own(verdict: Verdict) -> None:
    boots = [replace(verdict.boots[0], machine=name, number=1) for name in ("Ä a", "a", "a", "")]

    names = logs.anchors(boots)

    assert len(set(names.values())) == 4
    assert names[0] == "boot-a-1"


def test_a_folder_that_was_moved_still_has_its_logs_and_units(tmp_path: Path) -> None:
    verdict = samples.run(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")

    page = report.write_page(verdict, tmp_path / "new").read_text("utf-8")

    assert "nova-compute.service" in page
    assert "no longer exists" not in page


def test_a_run_whose_logs_and_units_are_gone_still_has_a_page(tmp_path: Path, verdict: Verdict) -> None:
    for file in tmp_path.glob("*/boot-1/*"):
        file.unlink() if file.suffix == ".log" else file.write_text("{broken", "utf-8")

    seen = Reader(report.write_page(verdict, tmp_path))

    assert "Its console log no longer exists." in seen.text
    assert "The times of its units were not recorded." in seen.text
    assert "console" not in seen.values("id")


def test_a_verdict_on_nothing_has_a_page(tmp_path: Path) -> None:
    bare = replace(samples.verdict(()), digests={}, host={}, cost=None, runtime_profile=None)
    nothing = replace(bare.coverage, boot_paths=(), passed=(), failed=(), missing=(), unchecked=())

    page = report.write_page(replace(bare, coverage=nothing, outcome=Outcome.INCONCLUSIVE), tmp_path)

    assert "Not every required check was proven." in Reader(page).text


def many_packages(count: int, name: str = "p") -> Diff:
    entries = tuple(DiffEntry(what=f"{name}{number}", change=Change.ADDED, new=name) for number in range(count))
    named = Named(image="base", version="1", digest="a" * 64)
    sections = (
        Section(name="packages", entries=entries, notes=("one note",)),
        Section(name="units", unknown="no run of OLD"),
        Section(name="files"),
    )
    return Diff(old=named, new=replace(named, version="2"), sections=sections)


def test_a_diff_shows_the_first_entries_and_folds_the_rest(tmp_path: Path, verdict: Verdict) -> None:
    page = report.write_page(verdict, tmp_path, diff=many_packages(1100))
    text = Reader(page).text

    assert "Packages: 1,100 added" in text
    assert "<summary>1,088 more</summary>" in page.read_text("utf-8")
    assert "p1099" in text
    assert "One note." in text
    assert "No difference in: files." in text
    assert "Not known: units: no run of OLD." in text


def test_nothing_in_a_diff_becomes_an_element(tmp_path: Path, verdict: Verdict) -> None:
    good = Reader(report.write_page(verdict, tmp_path, diff=many_packages(20)))

    seen = Reader(report.write_page(verdict, tmp_path, diff=many_packages(20, EVIL)))

    assert {tag for tag, _ in seen.elements} == {tag for tag, _ in good.elements}
    assert seen.text.count(EVIL) > 20


def test_a_diff_names_the_files_that_refer_to_what_is_gone(tmp_path: Path, verdict: Verdict) -> None:
    entry = DiffEntry(what="pci", change=Change.CHANGED, old="eth0", new="ens3", referring=(f"/etc/{EVIL}",))
    diff = replace(many_packages(1), sections=(Section(name="interfaces", entries=(entry,)),))

    assert f"/etc/{EVIL} refers to it" in Reader(report.write_page(verdict, tmp_path, diff=diff)).text


def test_a_diff_names_packages_and_marks_alarms(tmp_path: Path, verdict: Verdict) -> None:
    entry = DiffEntry(what="/etc/shadow", change=Change.CHANGED, package="passwd", weight=Weight.ALARM)
    diff = replace(many_packages(1), sections=(Section(name="files", entries=(entry,)),))

    seen = Reader(report.write_page(verdict, tmp_path, diff=diff))

    assert ("tr", {"class": "alarm"}) in seen.elements
    assert "passwd" in seen.text
    assert "package" not in Reader(report.write_page(verdict, tmp_path, diff=many_packages(1))).text.split("Diff")[-1]


def test_a_page_that_cannot_be_written_is_a_host_error(tmp_path: Path, verdict: Verdict) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        report.write_page(verdict, tmp_path / "absent")


def test_boots_are_compared_with_the_median_boot_on_their_path(tmp_path: Path, verdict: Verdict) -> None:
    boots = [
        samples.boot(tmp_path / "p", number, "direct", stretch=stretch) for number, stretch in enumerate((3, 1, 2))
    ]
    foreign = replace(boots[0], artifacts="others")
    begun = replace(boots[0], begins="initrd")
    promoted = replace(verdict, boots=(*boots, foreign, begun, begun, replace(boots[0], ready_s=None)))

    assert waterfall.typical(promoted, "direct") == boots[2]
    assert waterfall.typical(promoted, "kexec") is None
    laid = waterfall.lay_out(verdict, promoted, logs.anchors(verdict.boots), tmp_path)
    assert [lane.boot_path for lane in laid.lanes] == ["direct", "ipxe-bios"]
    assert all(row.ghosts for row in laid.lanes[0].rows)
    assert not any(row.ghosts for row in laid.lanes[1].rows)
    assert [row.boot.ready_s is None for row in laid.lanes[1].rows] == [True, False, False, False]


def test_each_boot_has_its_critical_path_and_says_what_it_waited_for(tmp_path: Path, verdict: Verdict) -> None:
    text = Reader(report.write_page(verdict, tmp_path)).text

    assert "It waited 6.4 s with idle CPUs: 5.5 s for openvswitch-switch.service." in text
    path = text.partition("Critical path: ")[2].partition("Units that took longest")[0]
    assert "openvswitch-switch.service 7.50 7.40 5.50" in path
    assert "libvirtd.service 15.10 9.50 0.20 6.90 s earlier, which it neither requires nor wants" in path
    assert "multi-user.target 24.70 0.00 8.30 s earlier" in path
    assert path.count("neither") == 1


def test_a_boot_of_an_older_bootproof_says_nothing_about_waits(tmp_path: Path) -> None:
    boot = replace(samples.boot(tmp_path, 0, "direct"), idle_s=None, waits=())
    (tmp_path / "web-0" / "boot-1" / CRITICAL_PATH).unlink()

    text = Reader(report.write_page(samples.verdict((boot,)), tmp_path)).text

    assert "Units that took longest" in text
    assert "idle" not in text.partition("Units that took longest")[0].partition("Boots ")[2]
    assert "Critical path" not in text


def test_only_units_that_took_time_in_user_space_are_drawn() -> None:
    unit = {"state": "active"}
    units = {
        "quick.service": Unit(begins_s=1.0, ready_s=1.04, **unit),
        "initrd.service": Unit(begins_s=-9.0, ready_s=-1.0, **unit),
        "over.service": Unit(begins_s=-2.0, ready_s=5.0, **unit),
        "some.target": Unit(begins_s=1.0, ready_s=9.0, **unit),
        **{f"{n}.mount": Unit(begins_s=20.0 - n, ready_s=20.0, **unit) for n in range(1, 20)},
    }

    drawn = waterfall.units_of(units, {"over.service": Unit(begins_s=0.0, ready_s=99.0, **unit)})

    assert drawn is not None
    assert [row.name for row in drawn.longest] == [f"{n}.mount" for n in range(19, 7, -1)]
    over = drawn.others[0]
    assert (over.name, over.bar.left, over.bar.width) == ("over.service", 0.0, 25.0)
    assert over.ghost is not None
    assert over.ghost.width == 100.0
    assert waterfall.units_of({}, {}) is None


@pytest.mark.parametrize(("seconds", "ticks"), [
    (0.0, (0, 0.02, 0.04, 0.06, 0.08, 0.1)), (9.9, (0, 2, 4, 6, 8)), (162, (0, 50, 100, 150)),
    (1e6, (0, 2e5, 4e5, 6e5, 8e5, 1e6)),
])  # fmt: skip
def test_a_scale_has_few_round_lines(seconds: float, ticks: tuple[float, ...]) -> None:
    assert scale_to(seconds).ticks == ticks


def test_a_trend_of_one_point_or_of_equal_ones_is_drawn(tmp_path: Path, verdict: Verdict) -> None:
    trends = [Series(name=f"t{n}", unit="s", points=(("v", 0.0),) * n) for n in range(3)]

    text = Reader(report.write_page(verdict, tmp_path, trends=trends)).text

    assert "t0" not in text
    assert "v: 0 s" in text


def test_the_summary_mentions_nobody_and_contains_no_markup(tmp_path: Path) -> None:
    bad = Finding(
        id="a`b", what="@team <b>see</b> #12\n/close ![x](http://e)", where="a|b", evidence=("```", "<details>", "@you")
    )

    text = report.markdown(samples.verdict((), (bad,)), tmp_path)

    assert "\\@" not in text
    assert "@team" not in text
    assert "#12" not in text
    assert "\n/close" not in text
    assert "\\<b\\>see" in text
    assert "!\\[x\\]" in text.replace("\\!", "!")
    assert "````text\n```\n<details>\n@you\n````" in text
    assert "`` a`b ``" in text


def test_the_summary_is_short_however_much_was_found(tmp_path: Path) -> None:
    many = tuple(
        Finding(id="x", what=f"finding {n}", where="here", evidence=("long " * 500,) * 50) for n in range(200)
    )  # fmt: skip

    text = report.markdown(samples.verdict((), many), tmp_path)

    assert len(text) < 20_000
    assert "190 more findings" in text
    assert "7 of 10 required checks passed" in text
    assert "Did not run: `identity`, `boot:ipxe-bios`" in text


def test_annotations_cannot_be_forged() -> None:
    bad = Finding(
        id="x", what="50%, a:b\r\n::error::forged", where="tests/image/test_a.py::test_it[x]",
        evidence=("::stop-commands::",),
    )  # fmt: skip

    error, warning = report.annotate(samples.verdict((), (bad,)), {"GITHUB_ACTIONS": "true"})

    assert error == (
        "::error file=tests/image/test_a.py,title=image%3A 50%25%2C a%3Ab%0A%3A%3Aerror%3A%3Aforged::"
        "tests/image/test_a.py::test_it[x] [x]%0A::stop-commands::"
    )
    assert warning == "::warning title=nova-kvm%3A required checks did not run::identity, boot:ipxe-bios"


def test_annotations_are_written_only_on_github(verdict: Verdict) -> None:
    assert list(report.annotate(verdict, {})) == []
    assert list(report.annotate(verdict, {"GITLAB_CI": "true"})) == []
    kinds = [line.split()[0] for line in report.annotate(verdict, {"GITHUB_ACTIONS": "true"})]
    assert kinds == ["::error", "::warning", "::warning"]


def test_gitlab_gets_the_required_fields_of_each_finding(tmp_path: Path) -> None:
    issues = json.loads(report.gitlab_report(samples.run(tmp_path, machines=20)))

    assert [issue["location"]["path"] for issue in issues] == [
        *["images/nova-kvm/image.toml"] * 3, "tests/image/test_links.py",
    ]  # fmt: skip
    assert len({issue["fingerprint"] for issue in issues}) == 4
    assert {issue["severity"] for issue in issues} == {"critical", "minor"}
    assert all(isinstance(issue["location"]["lines"]["begin"], int) for issue in issues)


def test_every_output_can_be_printed(tmp_path: Path) -> None:
    verdict = evil(tmp_path)
    said = [report.markdown(verdict, tmp_path), report.gitlab_report(verdict)]
    said += report.annotate(verdict, {"GITHUB_ACTIONS": "true"})

    assert not [text for text in said if "\x1b" in text or "\x00" in text]
    assert all(text.encode() for text in said)


def test_a_runtime_profile_of_an_earlier_run_is_shown(tmp_path: Path, verdict: Verdict) -> None:
    traits = RuntimeProfile(memory_mib=77, sockets=(), users={}, groups={}, links={}, units={})

    assert "77 MiB" in Reader(report.write_page(replace(verdict, runtime_profile=traits), tmp_path)).text


def test_what_guests_can_have_is_shown(tmp_path: Path, verdict: Verdict) -> None:
    offered = GuestContract(
        programs={"QEMU": "10.0.2", "libvirt": "11.3.0"}, unknown={"kvm": "the machine has no /dev/kvm"},
        machine_types={"pc-q35-10.0": "", "q35": "alias of pc-q35-10.0"},
    )  # fmt: skip
    assert verdict.runtime_profile is not None
    profile = replace(verdict.runtime_profile, host=HostFacts(guests=offered))

    text = Reader(report.write_page(replace(verdict, runtime_profile=profile), tmp_path)).text

    assert "What guests can have QEMU 10.0.2 libvirt 11.3.0 machine types 2 CPU models 0" in text
    assert "q35 alias of pc-q35-10.0 KVM not known: the machine has no /dev/kvm" in text
    assert "What guests can have" not in Reader(report.write_page(verdict, tmp_path)).text


def test_a_boot_shows_its_network_log_and_its_finding_the_display(tmp_path: Path, verdict: Verdict) -> None:
    seen = Reader(report.write_page(verdict, tmp_path))

    assert "GET /c650002e0a76/rootfs.squashfs 404 96 B in 0.0 s" in seen.text
    assert "capture.pcap" in seen.values("href")
    assert "capture.pcap.before" not in seen.values("href")  # it is not there
    pictures = {base64.b64decode(source.partition(",")[2]) for source in seen.values("src")}
    assert pictures == {samples.picture()}


def test_the_end_of_a_long_network_log_is_shown(tmp_path: Path) -> None:
    boot = samples.boot(tmp_path, 0, "ipxe-bios")
    Path(boot.console).with_name("network.log").write_text("".join(f"line {n}\n" for n in range(100)), "utf-8")

    text = Reader(report.write_page(samples.verdict((boot,)), tmp_path)).text

    assert "40 earlier lines are in network.log" in text
    assert "line 99" in text
    assert "line 40 line 41" in text
    assert "line 39 " not in text


def test_page_and_summary_name_what_is_not_applicable_with_its_reason(tmp_path: Path) -> None:
    made = samples.verdict((), (), outcome=Outcome.PASSED)
    verdict = replace(made, coverage=replace(made.coverage, not_applicable={"ordering": "systemd <252>"}))

    page = Reader(report.write_page(verdict, tmp_path))

    assert "ordering: systemd <252>" in page.text
    assert "Every required check that is applicable ran and passed" in page.text
    assert "- `ordering`: systemd \\<252\\>" in report.markdown(verdict, tmp_path)
