"""Put the judge on trial: run every trial, several at a time, and say which the right check has caught."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from ami_fault_site import runs
from ami_fault_site.sandbox.photographs import write_small
from ami_fault_site.trials import ACK_WAIT, Strike, Trial
from ami_fault_site.verdict import Case, judge
from ami_fault_site.verdict.terms import Status, Verdict, Whose

_STARTUP = 60.0  # seconds that a trial may take beyond its own timeout: machines are busy
_OWN = ("AMI_TEST_", "AMI_SAMPLE_", "AMI_ANTENNA_", "AMI_NUM_WORKERS", "MAX_RESTARTS", "RESTART_DELAY")
# Small batches and short sleeps: a trial is over in seconds, and every loader has a few batches in hand.
_WORKER = {
    "AMI_ANTENNA_API_BATCH_SIZE": "4",
    "AMI_NUM_WORKERS": "1",
    "AMI_SAMPLE_PREFETCH": "2",
    "AMI_SAMPLE_THREADS": "4",
    "AMI_SAMPLE_IDLE_SLEEP": "0.3",
    "AMI_SAMPLE_MODEL_DELAY": "0.005",
}


@dataclass(frozen=True)
class Result:
    """How a trial went. `problem` is why it does not count as passed, "" if it does; `seconds` is how long it took.

    `is_untold` says that the judge accused nobody, and could not know: on a busy machine a trial may be over before
    what it waits for could be seen, or before its worker was given anything.
    """

    trial: Trial
    seed: int
    problem: str
    told: str
    seconds: float
    folder: Path
    is_untold: bool = False

    @property
    def is_passed(self) -> bool:
        """Whether the judge was right."""
        return not self.problem


def run_all(
    trials: Sequence[Trial], seeds: Sequence[int], folder: Path, at_once: int, tell: Callable[[Result], None]
) -> list[Result]:
    """Run every trial with every seed, `at_once` at a time, and tell each result as it comes; sorted by trial.

    One of which nothing could be told is run once more, by itself; what is told of it then counts.
    """
    wanted = [(trial, seed) for seed in seeds for trial in trials]
    for images in {trial.images for trial in trials}:
        _pictures(folder, images).mkdir(parents=True)
        write_small(_pictures(folder, images), images)
    results = []
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run_one, trial, seed, _pictures(folder, trial.images), folder) for trial, seed in wanted]
        for future in as_completed(futures):
            results.append(future.result())
            tell(results[-1])
    for one in [one for one in results if one.is_untold]:
        results.remove(one)
        again = run_one(one.trial, one.seed, _pictures(folder, one.trial.images), folder / "once-more")
        results.append(replace(again, is_untold=False))
        tell(results[-1])
    order = {trial.name: index for index, trial in enumerate(trials)}
    return sorted(results, key=lambda one: (order[one.trial.name], one.seed))


def _pictures(folder: Path, images: int) -> Path:
    return folder / f"pictures-{images}"


def run_one(trial: Trial, seed: int, pictures: Path, folder: Path) -> Result:
    """Run one trial in a process of its own, and judge what its run folder says."""
    began = time.monotonic()
    run = folder / f"{trial.name.replace(' ', '-').replace(',', '')}-{seed}"
    run.mkdir(parents=True, exist_ok=True)
    code = _start(trial, seed, pictures, run)
    try:
        case = Case(*runs.read([run / "run"]))
        verdict = judge(case)
    except (runs.RunError, OSError) as error:
        said = (run / "stderr").read_text(errors="replace").strip().splitlines()
        why = f"it did not run (exit code {code})"
        return Result(trial, seed, why, said[-1] if said else str(error), time.monotonic() - began, run)
    problem, told = weigh(trial, verdict, {(one.site, one.kind, one.phase) for one in case.history.injections})
    return Result(trial, seed, problem, told, round(time.monotonic() - began, 1), run, is_untold(trial, verdict))


def is_untold(trial: Trial, verdict: Verdict) -> bool:
    """Say whether a verdict accuses nobody, and does not know what it was asked for, or was shown nothing."""
    if any(one.check.slug not in trial.allowed for one in verdict.failures):
        return False
    if verdict.nothing_handed_out:
        return True
    if trial.check:
        return verdict.finding(trial.check).status in (Status.UNKNOWN, Status.VACUOUS, Status.NOT_APPLICABLE)
    unsure = [one for one in verdict.findings if one.status is Status.UNKNOWN and one.check.is_safety]
    return any(one.check.slug not in trial.allowed for one in unsure)


def weigh(trial: Trial, verdict: Verdict, struck: Collection[Strike] = ()) -> tuple[str, str]:
    """Return what is wrong with a verdict on a trial, "" if nothing is, and what the verdict says."""
    failures = verdict.failures
    if trial.is_healthy:
        unsure = [f for f in verdict.findings if f.status is Status.UNKNOWN and f.check.is_safety]
        wrong = [one for one in (*failures, *unsure) if one.check.slug not in trial.allowed]
        if wrong:
            return f"{wrong[0].check.slug} says {wrong[0].status.value}", wrong[0].text
        if verdict.nothing_handed_out:
            return "nothing was handed out", verdict.finding("no-task-lost").text
        missing = [strike for strike in trial.strikes if strike not in struck]
        if missing:
            return "{1} never struck at {0}, {2}".format(*missing[0]), verdict.finding("no-task-lost").text
        return "", verdict.finding("no-task-lost").text
    finding = verdict.finding(trial.check)
    if finding.status is not Status.FAIL:
        others = ", ".join(one.check.slug for one in failures) or "nothing"
        return f"{trial.check} says {finding.status.value}; {others} fails", finding.text
    if finding.whose is not trial.whose:
        return f"{trial.check} blames the {finding.whose.value}", finding.text
    innocent = Whose.WORKER if trial.whose is Whose.SERVICE else Whose.SERVICE
    accused = [one for one in failures if one.whose is innocent]
    if accused:
        return f"{accused[0].check.slug} blames the {innocent.value}", accused[0].text
    return "", finding.text


def _start(trial: Trial, seed: int, pictures: Path, run: Path) -> int:
    command = [
        sys.executable, "-m", "ami_fault_site", "run", "--sandbox", "--images", str(pictures),
        "--ack-wait", f"{ACK_WAIT:g}", "--max-deliver", str(trial.max_deliver), "--seed", str(seed),
        "--restart-delay", "0.2", "--timeout", f"{trial.timeout:g}", "--run-dir", str(run / "run"), *trial.options,
    ]  # fmt: skip
    environ = environment(os.environ, trial)
    with (run / "stdout").open("wb") as out, (run / "stderr").open("wb") as err:
        process = subprocess.Popen(command, cwd=run, env=environ, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        try:
            return process.wait(trial.timeout + _STARTUP)
        except subprocess.TimeoutExpired:
            # Asked, it takes its worker and its sandbox along.
            process.send_signal(signal.SIGTERM)
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise


def environment(environ: Mapping[str, str], trial: Trial) -> dict[str, str]:
    """Return a trial's environment: nothing of what was chosen for another run, and its own faults and worker."""
    clean = {name: text for name, text in environ.items() if not name.startswith(_OWN)}
    return {**clean, **_WORKER, **trial.settings, **trial.worker}
