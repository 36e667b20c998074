"""Ask the service about its jobs, and keep what it says: snapshots cannot be made afterwards."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ami_fault_site.jobdetail import JobDetail, job_detail
from ami_fault_site.joblog import consumer_settings
from ami_fault_site.redaction import redact
from ami_fault_site.target import Target

_LOG_LINES = 5000  # the most that Antenna gives; a job writes 19 to 25 an image, the consumer's line is among the first
_TIMEOUT = 10.0
_UNAUTHORIZED = (401, 403)
_FINAL_ROUNDS = 10
_SETTLED, _UNSETTLED = "settled", "unsettled"  # the last snapshot of a job: whether nothing changed any more


class ServiceError(Exception):
    """The service cannot be asked: not reachable, or it refuses the token."""


class Service:
    """The service's job API, as far as a run needs it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._headers = {"Authorization": f"Token {target.token}"} if target.token else {}

    def probe(self) -> None:
        """Raise ServiceError, naming what to look at, if the service does not answer or refuses the token."""
        import requests  # not above: most commands ask nobody, and would load it all the same

        url = f"{self._target.base_url}/jobs/"
        try:
            answer = requests.get(url, params={"ids_only": 1, "limit": 1}, headers=self._headers, timeout=_TIMEOUT)
        except requests.RequestException as error:
            source = self._target.sources["AMI_ANTENNA_API_BASE_URL"]
            raise ServiceError(
                f"AMI_ANTENNA_API_BASE_URL={self._target.base_url!r} ({source}): nothing answers there "
                f"({type(error).__name__}); is the service up?"
            ) from error
        if answer.status_code in _UNAUTHORIZED:
            source = self._target.sources["AMI_ANTENNA_API_AUTH_TOKEN"]
            raise ServiceError(
                f"AMI_ANTENNA_API_AUTH_TOKEN ({source}): {self._target.host} refuses it ({answer.status_code})"
            )
        if not answer.ok:
            raise ServiceError(
                f"AMI_ANTENNA_API_BASE_URL={self._target.base_url!r}: {answer.status_code} for /jobs/; "
                "is it the URL of an Antenna API, ending in /api/v2?"
            )

    def job(self, number: int, log_lines: int, timeout: float) -> Mapping[str, object]:
        """Return a job's detail as the service gives it; raises ServiceError with the reason if it cannot be had."""
        import requests

        url = f"{self._target.base_url}/jobs/{number}/"
        try:
            answer = requests.get(url, params={"logs_limit": log_lines}, headers=self._headers, timeout=timeout)
            parsed = answer.json() if answer.ok else None
        except (requests.RequestException, ValueError) as error:
            raise ServiceError(type(error).__name__) from error
        if not isinstance(parsed, dict):
            raise ServiceError(f"status {answer.status_code}")
        return parsed

    def retry(self, number: int) -> None:
        """Have a job run again from nothing; raises ServiceError with what the service says if it refuses."""
        import requests

        url = f"{self._target.base_url}/jobs/{number}/retry/"
        try:
            answer = requests.post(url, headers=self._headers, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise ServiceError(f"job {number} cannot be run again: {type(error).__name__}") from error
        if not answer.ok:
            said = f"{answer.status_code}: {redact(' '.join(answer.text.split()))[:200]}"
            raise ServiceError(f"job {number} cannot be run again: {self._target.host} says {said}")


@dataclass(frozen=True)
class Seen:
    """What the service said of a job when it was asked, heard `at` some moment (monotonic seconds)."""

    asked: float
    at: float
    detail: JobDetail
    raw: Mapping[str, object]


class JobWatch:
    """Follows the jobs of a run in a thread of its own, so that a slow service delays no restart.

    Each job's detail is kept at its first sight, every `keep_every` seconds, when its state changes, and at the end.
    """

    def __init__(
        self, service: Service, folder: Path, secrets: tuple[str, ...], every: float, keep_every: float = 30.0
    ) -> None:
        self._service = service
        self._folder = folder
        self._secrets = secrets
        self._every = every
        self._keep_every = keep_every
        self._jobs: set[int] = set()
        self._seen: dict[int, Seen] = {}
        self._kept: dict[int, tuple[float, str]] = {}
        self._consumer: dict[str, float] = {}
        self._snapshots = 0
        self._trouble: dict[int, str] = {}
        self._timeout = _TIMEOUT
        self._changed = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="job-watch", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def follow(self, jobs: set[int]) -> None:
        """Follow these jobs; a new one is looked at without delay."""
        if not jobs <= self._jobs:
            self._jobs = self._jobs | jobs
            self._changed.set()

    def details(self) -> dict[int, JobDetail]:
        """Return what the service said last of each job, as far as it has said anything."""
        return {job: seen.detail for job, seen in list(self._seen.items())}

    def seen(self) -> dict[int, Seen]:
        """Return what the service said last of each job, and when."""
        return dict(self._seen)

    def consumer(self) -> dict[str, float]:
        """Return max_deliver and ack_wait (s) as found in a job's log, {} if they were not."""
        return dict(self._consumer)

    def trouble(self) -> dict[int, str]:
        """Return why nothing is known of a job just now, for each job of which that is so."""
        return dict(self._trouble)

    def finish(self, settle: float, patience: float = 30.0) -> dict[int, JobDetail]:
        """Stop following; keep every job's detail now and again once it has not changed for `settle` seconds.

        Background work may go on changing a job after its end: five times as long at most. Takes about `patience`
        seconds in all if the service does not answer.
        """
        deadline = time.monotonic() + patience
        self._ended = True
        self._timeout = min(_TIMEOUT, patience / 3)
        self._changed.set()
        self._thread.join(patience / 3)
        self._look_at_all("end", deadline)
        settled_by = min(deadline, time.monotonic() + 5 * settle)
        at_rest = False
        while settle and self._seen and not self._trouble and not at_rest and time.monotonic() < settled_by:
            before = self.details()
            time.sleep(settle)
            self._look_at_all("", deadline)
            at_rest = not self._trouble and self.details() == before
        if settle:
            self._look_at_all(_SETTLED if at_rest else _UNSETTLED, deadline)
        return self.details()

    def _look_at_all(self, why: str, deadline: float) -> None:
        for job in sorted(self._jobs):
            if time.monotonic() < deadline:
                self._look(job, why)

    def _run(self) -> None:
        rounds = 0
        while not self._ended:
            rounds += 1
            for job in sorted(self._jobs):
                # One that has ended should stay so: look again now and then.
                if not self._is_final(job) or rounds % _FINAL_ROUNDS == 0:
                    self._look(job)
            self._changed.wait(self._every)
            self._changed.clear()

    def _is_final(self, job: int) -> bool:
        return job in self._seen and self._seen[job].detail.is_final

    def _look(self, job: int, why: str = "") -> None:
        """Look at one job; whatever goes wrong is trouble to be told, and no end to looking."""
        try:
            self._take(job, why)
        except ServiceError as error:
            self._trouble[job] = str(error)
        except OSError as error:
            self._trouble[job] = f"its snapshot cannot be written: {error.strerror}"
        except Exception as error:
            self._trouble[job] = f"its answer cannot be read: {type(error).__name__}"
        else:
            self._trouble.pop(job, None)

    def _take(self, job: int, why: str) -> None:
        first = job not in self._seen
        kept_at, status = self._kept.get(job, (0.0, ""))
        keeping = bool(why) or first or time.monotonic() - kept_at >= self._keep_every
        # The log is long, and wanted only for what is kept and until the consumer's settings were found in it. It is
        # kept at intervals because it shows its newest lines only: only together do the excerpts tell of everything.
        lines = _LOG_LINES if keeping or not self._consumer else 1
        asked = time.monotonic()
        raw = self._service.job(job, lines, self._timeout)
        seen = Seen(asked, time.monotonic(), job_detail(raw), raw)
        if why == _SETTLED and not first and seen.detail != self._seen[job].detail:
            why = _UNSETTLED  # it has moved after all
        self._seen[job] = seen
        if not self._consumer:
            logs = raw.get("logs")
            self._consumer = consumer_settings(logs.get("stdout") if isinstance(logs, Mapping) else None)
        if keeping or status != seen.detail.status:
            self._keep(job, seen, why or ("first" if first else "later"))

    def _keep(self, job: int, seen: Seen, why: str) -> None:
        self._kept[job] = (seen.at, seen.detail.status)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        text = json.dumps(_redacted(seen.raw, self._secrets), indent=1)
        # Numbered: two looks within a second are two snapshots.
        self._snapshots += 1
        path = self._folder / f"{job}-{stamp}-{self._snapshots:04d}-{why}.json"
        draft = path.with_suffix(".draft")  # whoever judges meanwhile must not find half of it
        draft.write_text(text, "utf-8")
        draft.replace(path)


def _redacted(value: object, secrets: tuple[str, ...]) -> object:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {key: _redacted(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, secrets) for item in value]
    return value
