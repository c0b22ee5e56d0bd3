"""What a machine fetched over HTTP: the first download that failed for good is a finding, with its requests.

Nobody waits for an initrd that tries a hundred times: the web server is the lab's own and can be asked what the next
try would get.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.artifacts import Artifacts
from harness.deadline import host_scale
from harness.lab import Answer, HttpServer, Request, RequestRecord
from harness.verdict import Finding

_STALLED_S = 3.0
_RETRY_S = 60.0
"""On the reference machine. dracut's livenet tries again after 5 s (livenetroot), iPXE's script after 3 s."""
_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """The requests of one machine for its artifacts since it was switched on, at ``since_s`` (monotonic)."""

    http: HttpServer
    client: str
    since_s: float
    artifacts: Artifacts

    @property
    def records(self) -> list[RequestRecord]:
        return [record for record in self.http.log if self._is_ours(record.request, record.started_s)]

    def sums(self) -> dict[str, int]:
        """Bytes of each artifact that went out."""
        sums: dict[str, int] = {}
        for record in self.records:
            if record.status == 200:
                sums[name_of(record)] = sums.get(name_of(record), 0) + record.bytes_sent
        return sums

    def failure(self, where: str) -> Finding | None:
        """Why the machine will not get what it asked for; None as long as it may."""
        stalled = [one for one in self.http.under_way if self._is_ours(one.request, one.started_s)]
        for transfer in stalled:
            if transfer.idle_s > _STALLED_S:
                sent, size = transfer.bytes_sent / _MB, transfer.size_bytes / _MB
                return _finding(
                    "download-stalls",
                    f"a download stopped in the middle (GET {transfer.request.path}: {sent:.1f} of {size:.1f} MB)",
                    where,
                    self.records,
                    "the server, or the network to it, went away while it sent",
                )
        return self.judge(where, self.http.answer_to, time.monotonic())

    def judge(self, where: str, next_answer: Callable[[Request], Answer], now_s: float) -> Finding | None:
        """The same of what has ended."""
        latest: dict[str, RequestRecord] = {}
        for record in self.records:
            if record.status // 100 != 3:
                latest[name_of(record)] = record
        for name, record in latest.items():
            size_bytes = self.artifacts.manifest.files[name].size_bytes
            if problem := self._problem(name, record):
                is_lost = problem[0] == "served-bytes-differ" or not _is_whole(next_answer(record.request), size_bytes)
                if is_lost:
                    return _finding(problem[0], problem[1], where, self.records, problem[2])
                if now_s - record.started_s - record.elapsed_s > _RETRY_S * host_scale():
                    return _finding(
                        "download-not-retried", f"a download failed ({_said(record)}) and was not tried again", where,
                        self.records, "the initrd or the boot script gives up at the first failure",
                    )  # fmt: skip
        return None

    def lacking(self, fetched: Sequence[str], where: str) -> Iterator[Finding]:
        """Of the files that it must have ``fetched``, those that it never got as they are in the manifest."""
        for name in fetched:
            good = [record for record in self.records if name_of(record) == name and not self._problem(name, record)]
            if not good:
                awaited = self.artifacts.manifest.files[name].size_bytes
                what = f"{self.sums().get(name, 0)} bytes of {name} were served, {awaited} are in the manifest"
                cause = "a download was cut short, or something else was booted"
                yield _finding("served-bytes-differ", what, where, self.records, cause)

    def _is_ours(self, request: Request, started_s: float) -> bool:
        is_artifact = request.path.rpartition("/")[2] in self.artifacts.manifest.files
        return request.client == self.client and started_s >= self.since_s and request.method == "GET" and is_artifact

    def _problem(self, name: str, record: RequestRecord) -> tuple[str, str, str] | None:
        """Id, words and cause, if that download was not what it should be."""
        file = self.artifacts.manifest.files[name]
        if record.status != 200:
            cause = "the server does not have it, or cannot serve it now"
            return "http-error", f"the web server answered {record.status} for {name}", cause
        if record.bytes_sent < record.size_bytes:
            said = f"{record.bytes_sent} of {record.size_bytes} bytes of {name}"
            return (
                "download-cut",
                f"a download ended early ({said})",
                "the connection was cut, or the machine broke off",
            )
        if record.file == self.artifacts.folder / name or record.sha256 == file.sha256:
            return None
        return (
            "served-bytes-differ",
            f"the {name} that was served is not the one of the manifest ({record.bytes_sent} bytes, "
            f"{file.size_bytes} awaited)",
            "a truncated or damaged copy on the server, a flipped bit on the way, or another build's file",
        )


def name_of(record: RequestRecord) -> str:
    return record.path.rpartition("/")[2]


def _is_whole(answer: Answer, size_bytes: int) -> bool:
    """Whether it would do, or leads on to one that may."""
    return answer.status // 100 == 3 or (answer.status == 200 and answer.sent_bytes == answer.size_bytes == size_bytes)


def _finding(finding_id: str, what: str, where: str, records: Sequence[RequestRecord], cause: str) -> Finding:
    evidence = tuple(_said(record) for record in records[-4:])
    return Finding(id=finding_id, what=what, where=where, evidence=evidence, cause=cause)


def _said(record: RequestRecord) -> str:
    sent, size = record.bytes_sent / _MB, record.size_bytes / _MB
    return f"GET {record.path} {record.status}, {sent:.1f} of {size:.1f} MB in {record.elapsed_s:.1f} s"
