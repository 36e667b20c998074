"""What the hooks cost a call, in one process and one thread, beside what people use in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench.environments import ON, Environments, InstallError
from tests.bench.pairs import Contender, ContenderError, told
from tests.bench.rows import Goal, Row, paired, spread

SEND = "on, no fault: Session.send through an adapter that does nothing"
OPEN = "on, no fault: Image.open of a small JPEG in memory"
STRUCK = "on, a fault fired and booked"
_PROBES = Path(__file__).parent / "probes"
_FEW = Goal("at most 3 us more", "added", most=3.0)
_SOME = Goal("at most 20 us more", "added", most=20.0)
_FIFTY = Goal("at most 50 us more", "added", most=50.0)
_PEERS = (
    ("a wrapt wrapper that does nothing", "wrapt", ("wrapt",)),
    (
        "OpenTelemetry's instrumentation of requests",
        "opentelemetry",
        ("opentelemetry-instrumentation-requests", "opentelemetry-sdk"),
    ),
    ("responses", "responses", ("responses",)),
)


def rows(environments: Environments, scratch: Path, rounds: int, number: int, with_peers: bool) -> Iterator[Row]:
    """Measure the calls, `number` of them at a time and `rounds` processes of each kind beside each other."""
    sends = _Probe(environments, scratch / "send", "send.py", rounds, number)
    yield from sends.rows(
        SEND,
        {
            "a call of no concern": ("other", _FEW),
            "asking for tasks": ("tasks", _SOME),
            "downloading a task's image": ("image", _SOME),
        },
    )
    if with_peers:
        yield from sends.peers(SEND)
    opens = _Probe(environments, scratch / "open", "open.py", rounds, max(2, number // 4))
    yield from opens.rows(OPEN, {"of another image": ("other", _FEW), "of a task's image": ("task", _SOME)})
    well, really = "unpatched, and going well", "unpatched, and really refused"
    failing = {"AMI_TEST_NETWORK_ERROR_RATE": "1"}
    refused = {**failing, "AMI_TEST_NETWORK_KINDS": "refused"}
    yield sends.struck("asking for tasks fails", "tasks", failing, (well, "tasks"))
    yield sends.struck("asking for tasks is refused", "refused", refused, (really, "refused"))
    yield opens.struck("a task's image is damaged", "task", {"AMI_TEST_CORRUPT_IMAGE_RATE": "1"}, (well, "task"))


class _Probe:
    """Runs one of the scripts, unpatched and under each of those who patch."""

    def __init__(self, environments: Environments, folder: Path, script: str, rounds: int, number: int) -> None:
        self._environments = environments
        self._folder = folder
        self._script = _PROBES / script
        self._rounds = rounds
        self._number = str(number)
        self._runs = 0

    def rows(self, promise: str, subjects: Mapping[str, tuple[str, Goal]]) -> Iterator[Row]:
        """Yield, for each subject, the unpatched call and what the hook adds."""
        for subject, (what, goal) in subjects.items():
            off = self._one("off", self._environments.ours, "plain", what)
            found = told([off, self._on(what, {})], self._rounds)
            plain, hooked = found["off"]["us"], found["on"]["us"]
            yield Row(promise, f"{subject}, unpatched", "us", spread(plain))
            yield paired(promise, f"{subject}, with this package", "us", hooked, ("unpatched", plain), goal)

    def peers(self, promise: str) -> Iterator[Row]:
        """Yield what others add to a call, where each is at home."""
        for name, how, packages in _PEERS:
            try:
                python = self._environments.python(how, *packages)
                contenders = [self._one("plain", python, "plain", "other"), self._one(how, python, how, "other")]
                found = told(contenders, self._rounds)
            except (InstallError, ContenderError) as why:
                yield Row(promise, f"any call, {name}", "us", note=f"could not be measured: {why}")
            else:
                yield paired(promise, f"any call, {name}", "us", found[how]["us"], ("unpatched", found["plain"]["us"]))

    def struck(self, subject: str, what: str, faults: Mapping[str, str], against: tuple[str, str]) -> Row:
        """Return what a call costs that a fault strikes, against another, unpatched: its name, and what it does."""
        off = self._one("off", self._environments.ours, "plain", against[1])
        found = told([off, self._on(what, faults)], self._rounds)
        return paired(STRUCK, subject, "us", found["on"]["us"], (against[0], found["off"]["us"]), _FIFTY)

    def _on(self, what: str, faults: Mapping[str, str]) -> Contender:
        self._runs += 1
        folder = {"AMI_TEST_RUN_DIR": str(self._folder / str(self._runs)), "AMI_TEST_ACK_WAIT": "60"}
        return self._one("on", self._environments.ours, "plain", what, {**ON, **folder, **faults})

    def _one(self, name: str, python: Path, how: str, what: str, environ: Mapping[str, str] | None = None) -> Contender:
        return Contender(name, [python, self._script, how, what, self._number], environ or {})
