"""What weather makes of the web server's answers: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.lab.http import Answer, Request
from harness.model.network_faults import SLOW_BYTES_PER_S, HttpFault, HttpWeather, Weather

_MOVED = "moved"
"""The query by which a request that was redirected is told from the first."""


def altered(weathers: Iterable[Weather], noise: Path, request: Request, answer: Answer, answered_before: int) -> Answer:
    """``answer`` as the weather leaves it, where it is for a file that the weather is about.

    ``noise`` is a folder for files of the right length and the wrong content.
    """
    name = request.path.rpartition("/")[2]
    weathers = list(weathers)
    if any(isinstance(weather, HttpWeather) and weather.fault.is_refusal for weather in weathers):
        answer = replace(answer, headers={**answer.headers, "Connection": "close"})  # the next file takes another one
    for weather in weathers:
        if isinstance(weather, HttpWeather) and weather.file.is_called(name) and answer.status == 200:
            answer = _befallen(weather, noise / name, request, answer, answered_before)
    return answer


def _befallen(weather: HttpWeather, noise: Path, request: Request, answer: Answer, answered_before: int) -> Answer:
    half = answer.size_bytes // 2
    match weather.fault:
        case HttpFault.MISSING:
            return Answer(status=404, body=b"the weather has it\n")
        case HttpFault.BUSY:
            return Answer(status=503, body=b"the weather has it\n")
        case HttpFault.BUSY_ONCE:
            return answer if answered_before else Answer(status=503, body=b"the weather has it\n")
        case HttpFault.STALLS:
            return replace(answer, stall_after_bytes=half)
        case HttpFault.CUT:
            return replace(answer, cut_after_bytes=half)
        case HttpFault.TRUNCATED:
            return replace(answer, only_bytes=half)
        case HttpFault.FLIPPED:
            return replace(answer, flipped_at=half)
        case HttpFault.NOISE:
            return replace(answer, body=_noise(noise, answer.size_bytes))
        case HttpFault.OTHER_BUILD:
            return replace(answer, body=weather.other or answer.body)
        case HttpFault.REDIRECT:
            return answer if request.query == _MOVED else _redirect(request)
        case HttpFault.SLOW:
            return replace(answer, bytes_per_s=SLOW_BYTES_PER_S)
        case HttpFault.REFUSED | HttpFault.REFUSED_ONCE:
            return answer  # after all; see `packets`


def _redirect(request: Request) -> Answer:
    return Answer(status=302, headers={"Location": f"{request.path}?{_MOVED}"})


def _noise(file: Path, size_bytes: int) -> Path:
    """A file of zeros that takes no space."""
    with file.open("ab") as noise:
        noise.truncate(size_bytes)
    return file
