"""The promise of the faults of images: a worker meets what it meets when the file is damaged for real."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
import requests.sessions
from PIL import Image, ImageFile

from ami_fault_site.antenna import Lease, parse_reply_subject
from ami_fault_site.faults import DAMAGE_KINDS, SUBTLE_DAMAGE_KINDS
from ami_fault_site.hooks import http
from ami_fault_site.sandbox.worker import batches, client, loop
from ami_fault_site.sandbox.worker.settings import Settings
from tests.stage import events, hand_out, injector, reply_subject, service
from tests.twins import table
from tests.twins.anatomy import anatomy, normal
from tests.twins.damage import DAMAGES
from tests.twins.injected import by_rules
from tests.twins.server import behaving
from tests.twins.table import Compared, Row

ROWS = table.rows(Compared.IMAGE)
PHOTOGRAPH = Path(__file__).parent.parent.parent.parent / "shared" / "images" / "trap-denmark.jpg"
SUBJECTS: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "bytes": lambda path: str(path).encode(),
    "Path": lambda path: path,
    "file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
}


@cache
def picture(kind: str) -> bytes:
    """Return a picture of this format, or the photograph."""
    if kind == "photograph":
        return PHOTOGRAPH.read_bytes()
    stream = io.BytesIO()
    Image.effect_noise((96, 64), 60).convert("RGB").save(stream, kind)
    return stream.getvalue()


KINDS = [
    "JPEG",
    "PNG",
    pytest.param("photograph", marks=pytest.mark.skipif(not PHOTOGRAPH.exists(), reason=f"{PHOTOGRAPH} is not there")),
]


def kind_of(row: Row) -> str:
    """Return the kind of damage by which a rule names it."""
    return row.fault.split(" ")[1]


def test_every_damage_has_its_twin_and_every_twin_is_one() -> None:
    assert [kind_of(row) for row in ROWS] == [*DAMAGE_KINDS, *SUBTLE_DAMAGE_KINDS]
    assert [row.twin for row in ROWS] == [*DAMAGES]


# --- opened in every way


def meet(subject: Any, lenient: bool) -> Any:
    """Open and load an image as PIL is told to, and return all that can be seen of it."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
        if isinstance(subject, io.BufferedReader):
            stack.enter_context(subject)
        try:
            image = stack.enter_context(Image.open(subject))
        except Exception as error:
            return ["not opened", anatomy(error)]
        seen: list[Any] = [type(image), image.format, image.size, image.mode, getattr(image, "filename", None)]
        try:
            image.load()
        except Exception as error:
            return [*seen, "not loaded", anatomy(error)]
        return [*seen, hashlib.sha256(image.tobytes()).hexdigest()]


@pytest.mark.parametrize("lenient", [True, False], ids=["lenient", "strict"])
@pytest.mark.parametrize("opened", SUBJECTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS, ids=kind_of)
def test_an_image_is_opened_as_one_that_is_really_damaged(
    row: Row, kind: str, opened: str, lenient: bool, tmp_path: Path
) -> None:
    path = tmp_path / "moth.img"
    path.write_bytes(DAMAGES[row.twin](picture(kind)))
    real = meet(SUBJECTS[opened](path), lenient)
    path.write_bytes(picture(kind))
    good = meet(SUBJECTS[opened](path), lenient)
    with by_rules(tmp_path, f"image.open: {kind_of(row)}") as one:
        one.here.image = leased()
        injected = meet(SUBJECTS[opened](path), lenient)
        assert [event.text("kind") for event in events(one.run, "fault")] == [kind_of(row)]
    assert injected == real
    assert injected != good


def leased() -> Lease:
    """Return the lease of an image that has just been downloaded."""
    delivery = parse_reply_subject(reply_subject(1))
    assert delivery is not None
    return Lease(delivery, "1", "http://127.0.0.1/captures/1.jpg")


# --- met by a worker


def work_off(base: str) -> Any:
    """Let the sample worker fetch a batch, load it and work it off; return its answers and what it logs."""
    settings = Settings(f"{base}/api/v2", "token", "twin", 2, 0, 0.0, 0.0, 1, 1)
    with pytest.MonkeyPatch.context() as patch, logged() as lines, client.http_session() as session:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        patch.setattr("time.sleep", lambda _seconds: None)  # urllib3's between its own attempts
        tasks = client.fetch_tasks(session, settings, 1)
        pictures = [batches._load(session, task.image_url) for task in tasks]
        answers = loop.process_batch(batches._collate(tasks, pictures, 0), 0, "moth_binary", 0.0)
    return [timeless(answers), lines]


def timeless(value: Any) -> Any:
    """Return an answer without what the clock says, and without ports."""
    if isinstance(value, list):
        return [timeless(one) for one in value]
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name not in ("timestamp", "total_time")}
    return normal(value) if isinstance(value, str) else value


def errors_of(met: Any) -> list[str]:
    """Return the errors that were answered."""
    return [str(answer["result"]["error"]) for answer in met[0] if "error" in answer["result"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS, ids=kind_of)
def test_a_worker_answers_and_logs_what_it_does_of_an_image_that_is_really_damaged(
    row: Row, kind: str, tmp_path: Path
) -> None:
    with service() as stage:
        hand_out(stage, 1, 2)
        stage.picture = DAMAGES[row.twin](picture(kind))
        real = work_off(stage.url)
        stage.picture = picture(kind)
        good = work_off(stage.url)
        with by_rules(tmp_path, f"image.open: {kind_of(row)}") as one:
            injected = work_off(stage.url)
            assert [event.text("kind") for event in events(one.run, "fault")] == [kind_of(row)] * 2
    assert injected == real
    assert injected != good
    # Damage that opening does not show is not noticed: the real worker, too, loads what there is of a file.
    assert errors_of(injected) == ([] if kind_of(row) in SUBTLE_DAMAGE_KINDS else ["failed to load image"] * 2)


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_worker_answers_and_logs_what_it_does_of_an_image_that_is_really_not_to_be_had(
    status: int, tmp_path: Path
) -> None:
    with service() as stage:
        hand_out(stage, 1, 2)
        with behaving(f"answers {status}") as server:
            whole, stage.tasks = stage.tasks, [at(server.url, task) for task in stage.tasks]
            real = work_off(stage.url)
        stage.tasks = whole
        with by_rules(tmp_path, f"image.get: status({status})"):
            injected = work_off(stage.url)
        assert stage.paths("/captures/") == []
    assert injected == real
    assert errors_of(injected) == ["failed to load image"] * 2


def at(base: str, task: dict[str, str]) -> dict[str, str]:
    """Return a task whose image is elsewhere."""
    return {**task, "image_url": base + task["image_url"][task["image_url"].index("/captures/") :]}


def test_an_image_that_is_missing_for_the_whole_run_fails_as_a_real_404(tmp_path: Path) -> None:
    (row,) = table.rows(Compared.DOWNLOAD)
    with service() as stage:
        hand_out(stage, 1)
        with behaving(row.twin) as server:
            real = download(at(server.url, stage.tasks[0])["image_url"])
        one = injector(tmp_path, image_404_rate=1.0)
        undo = http.install(requests.sessions, one, lambda: None)
        try:
            requests.post(f"{stage.url}/api/v2/jobs/1/tasks/", json={}, timeout=10)
            injected = download(stage.tasks[0]["image_url"])
        finally:
            undo()
        assert [event.text("effect") for event in events(one.run, "fault")] == [row.fault.split(" ")[0]]
    assert injected == real
    assert injected["type"] == "requests.exceptions.HTTPError"


def download(url: str) -> Any:
    """Return the anatomy of the error, with its response, that a download ends in."""
    with client.http_session() as session:
        response = session.get(url, timeout=10)
        with pytest.raises(requests.HTTPError) as raised:
            response.raise_for_status()
        return anatomy(raised.value)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what is logged of warnings and errors."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(f"{record.levelname} {normal(record.getMessage())}")  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)
