"""A machine's downloads over HTTP: the first one that cannot succeed is a finding.

An initrd may try a hundred times. The lab's web server knows what the next attempt would get, so the harness does not
wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.core.deadline import host_scale
from harness.lab import HttpAnswer, HttpServer, Request, RequestRecord
from harness.model.artifacts import Artifacts
from harness.model.verdict import Finding

_STALLED_S = 3.0
_RETRY_S = 60.0
"""Within this time a failed download must be retried, on the reference machine: dracut's livenet does after 5 s
(livenetroot), iPXE's script after 3 s."""
_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """The downloads of ``artifacts`` by the machine at address ``client``, on since ``since_s`` (monotonic)."""

    http: HttpServer
    client: str
    since_s: float
    artifacts: Artifacts

    @property
    def records(self) -> list[RequestRecord]:
        return [record for record in self.http.log if self._is_ours(record.request, record.started_s)]

    def sums(self) -> dict[str, int]:
        """Bytes sent of each artifact."""
        sums: dict[str, int] = {}
        for record in self.records:
            if record.status == 200:
                sums[file_name(record)] = sums.get(file_name(record), 0) + record.bytes_sent
        return sums

    def failure(self, where: str) -> Finding | None:
        """Why a download cannot succeed; None while it may."""
        for transfer in self.http.under_way:
            if self._is_ours(transfer.request, transfer.started_s) and transfer.idle_s > _STALLED_S:
                sent, size = transfer.bytes_sent / _MB, transfer.size_bytes / _MB
                return Finding(
                    id="download-stalls",
                    what=f"the download of {file_name(transfer.request)} stopped after {sent:.1f} of {size:.1f} MB",
                    where=where,
                    cause="the server, or the network to it, failed during the download",
                )
        return self.judge(where, self.http.answer_to, time.monotonic())

    def judge(self, where: str, next_answer: Callable[[Request], HttpAnswer], now_s: float) -> Finding | None:
        """The same for downloads that have ended; ``next_answer`` is what the server would send now."""
        latest = {file_name(record): record for record in self.records if record.status // 100 != 3}
        for name, record in latest.items():
            problem = self._problem(name, record, where)
            size_bytes = self.artifacts.manifest.files[name].size_bytes
            if problem is None:
                continue
            if problem.id == "served-bytes-differ" or not _is_whole(next_answer(record.request), size_bytes):
                return problem
            if now_s - record.started_s - record.elapsed_s > _RETRY_S * host_scale():
                return Finding(
                    id="download-not-retried",
                    what=f"{problem.what}, and was not tried again",
                    where=where,
                    cause="the initrd or the boot script gives up at the first failure",
                )
        return None

    def lacking(self, fetched: Sequence[str], where: str) -> Iterator[Finding]:
        """A finding for each file that had to be ``fetched`` and of which the manifest's bytes were never served."""
        for name in fetched:
            mine = [record for record in self.records if file_name(record) == name]
            if all(self._problem(name, record, where) for record in mine):
                expected = self.artifacts.manifest.files[name].size_bytes
                yield Finding(
                    id="served-bytes-differ",
                    what=f"{self.sums().get(name, 0)} bytes of {name} were served, {expected} are in the manifest",
                    where=where,
                    cause="a download was cut short, or something else was booted",
                )

    def _is_ours(self, request: Request, started_s: float) -> bool:
        is_artifact = request.path.rpartition("/")[2] in self.artifacts.manifest.files
        return request.client == self.client and started_s >= self.since_s and request.method == "GET" and is_artifact

    def _problem(self, name: str, record: RequestRecord, where: str) -> Finding | None:
        """What is wrong with the download ``record``, if anything."""
        expected = self.artifacts.manifest.files[name]
        sent, size = record.bytes_sent, record.size_bytes
        if record.status != 200:
            what = f"the web server answered {record.status} for {name}"
            cause = "the server does not have it, or cannot serve it now"
            return Finding(id="http-error", what=what, where=where, cause=cause)
        if sent < size:
            what = f"the download of {name} ended after {sent} of {size} bytes"
            cause = "the connection was cut, or the machine closed it"
            return Finding(id="download-cut", what=what, where=where, cause=cause)
        if record.file == self.artifacts.folder / name or record.sha256 == expected.sha256:
            return None
        what = f"{sent} bytes were served as {name}, which are not the {expected.size_bytes} of the manifest"
        cause = "a truncated or damaged copy on the server, a flipped bit on the way, or another build's file"
        return Finding(id="served-bytes-differ", what=what, where=where, cause=cause)


def file_name(request: Request | RequestRecord) -> str:
    return request.path.rpartition("/")[2]


def _is_whole(answer: HttpAnswer, size_bytes: int) -> bool:
    """Whether ``answer`` is the whole file, or a redirection."""
    return answer.status // 100 == 3 or (answer.status == 200 and answer.sent_bytes == answer.size_bytes == size_bytes)
