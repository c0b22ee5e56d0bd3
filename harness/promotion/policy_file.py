"""A policy file: what a stream requires of a build before it points to it, and which keys are trusted.

    [keys]                              # keys whose attestations count: Ed25519 public keys, in hex
    ci = "6b3f…"

    [streams.stable]
    checks = ["power-cuts", "ordering"] # besides those that the image definition requires
    not_applicable = ["ordering"]       # those of them that a build need not have passed if they are not applicable
    boot_paths = ["direct", "ipxe-bios"]
    power_cuts = 20000                  # how many disk states after power cuts were checked
    boots = 5                           # how often this build became ready, on each boot path
    max_age_days = 14                   # since the run
    flakes = "fail"                     # or "allow": tests that passed in some repeats and failed in others
    fleet = "fleet/"                    # hardware profiles of hosts that must lose no device: relative to this file

    [streams.stable.budget]             # how much more than the published build: percent, seconds, numbers
    boot_percent = 10
    boot_idle_s = 2                     # seconds of a boot in which the guest's CPUs were idle
    size_percent = 5
    memory_percent = 10
    packages = 20
    sockets = 0
    units = 5

    [[streams.stable.waive]]
    finding = "unit-failed"             # where = "…" narrows it down; or check = "openvswitch", all of it
    by = "ann@example.org"
    reason = "the new firmware package; shrinks with the next kernel"
    until = 2026-12-31

Only a waiver's finding (or check), by, reason and until are required. A budget is relative to the build that the
stream points to: in percent, in seconds more, or how many more.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date
from pathlib import Path

from harness.core.config_file import ConfigTable, parse_table
from harness.model.machine_spec import BootPath
from harness.promotion.policy import CHECK_FAILED, Budget, Policy, StreamRules, Waiver
from harness.verdict.coverage import known_checks

_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")
_NOT_BLANK = re.compile(r".*\S.*", re.DOTALL)


def load_policy(path: Path, content: bytes) -> Policy:
    """The policy in ``content``, which was read from ``path``; `DefinitionError` names what is wrong in it."""
    top = parse_table(path, content)
    keys, streams = top.table("keys"), top.table("streams")
    remedy = "write an Ed25519 public key: 64 hexadecimal digits, as in the file .pub"
    policy = Policy(
        keys={name: keys.matching(name, _PUBLIC_KEY, "6b3f…", remedy) for name in keys.content},
        streams={name: _stream(streams.table(name)) for name in streams.content},
    )
    top.finish()
    return policy


def _stream(table: ConfigTable) -> StreamRules:
    checks = sorted(known_checks())
    rules = StreamRules(
        checks=table.some_of("checks", checks, "a check", '["image"]', ()),
        not_applicable=table.some_of("not_applicable", checks, "a check", '["ordering"]', ()),
        boot_paths=table.some_of("boot_paths", list(BootPath), "a boot path", '["direct"]', ()),
        power_cuts=table.take("power_cuts", int, "20000", 0, least=0),
        boots=table.take("boots", int, "5", 1, least=0),
        max_age_days=table.take("max_age_days", int, "14", 30, least=0),
        flakes=table.one_of("flakes", ("fail", "allow"), "a rule for flakes", "fail"),
        fleet=_text(table, "fleet", "fleet/", ""),
        budget=_budget(table.table("budget")),
        waive=tuple(_waiver(row) for row in table.tables("waive")),
    )
    table.finish()
    return rules


def _budget(table: ConfigTable) -> Budget:
    budget = Budget(**{field.name: table.take(field.name, int, "10", None, least=0) for field in fields(Budget)})
    table.finish()
    return budget


def _waiver(table: ConfigTable) -> Waiver:
    if ("finding" in table.content) == ("check" in table.content):
        raise table.error("finding", "a waiver is of one finding or of one check", "name one of the two")
    waiver = Waiver(
        by=_text(table, "by", "ann@example.org"),
        reason=_text(table, "reason", "fixed by the next kernel"),
        until=table.take("until", date, "2026-12-31, without quotes"),
        finding=_text(table, "finding", "unit-failed", ""),
        where=_text(table, "where", "test_survival", ""),
        check=table.one_of("check", sorted(known_checks()), "a check", ""),
    )
    table.finish()
    if waiver.finding == CHECK_FAILED and not waiver.where:
        raise table.error("where", f"every test that fails is a {CHECK_FAILED!r}", "name the test")
    return waiver


def _text(table: ConfigTable, key: str, example: str, *default: str) -> str:
    return table.matching(key, _NOT_BLANK, example, f'write a text, for example {key} = "{example}"', *default)
