"""The promises of jobdetail: what the service tells of a job is read, whatever parts of it are missing."""

from __future__ import annotations

import json

import pytest

from ami_fault_site.jobdetail import JobDetail, job_detail
from tests.recordings import FOLDER


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("job-after-healthy.json", JobDetail(63, "SUCCESS", 24, 0, 0, ())),
        ("job-after-killed.json", JobDetail(64, "STARTED", 8, 32, 0, ())),
    ],
)
def test_a_recorded_job_is_read(name: str, detail: JobDetail) -> None:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip("the recordings of the real service are not beside this checkout")
    parsed = json.loads(path.read_text())

    assert job_detail(parsed) == detail
    assert job_detail(parsed).is_final is (detail.status == "SUCCESS")


def stage(**values: object) -> dict[str, object]:
    return {"key": "process", "params": [{"key": key, "value": value} for key, value in values.items()]}


@pytest.mark.parametrize(
    ("parsed", "detail"),
    [
        ({}, JobDetail(0, "", None, None, None, ())),
        ({"id": 3, "status": "CREATED", "progress": None}, JobDetail(3, "CREATED", None, None, None, ())),
        (
            {"id": 3, "status": "PENDING", "progress": {"stages": [stage(processed="", remaining="", failed="")]}},
            JobDetail(3, "PENDING", None, None, None, ()),
        ),
        (
            {
                "id": 3,
                "status": "FAILURE",
                "progress": {
                    "stages": [{"key": "results"}, {"key": "process", "params": None}, stage(processed=2, failed=5), 7],
                    "errors": ["one", 2],
                },
            },
            JobDetail(3, "FAILURE", 2, None, 5, ("one", "2")),
        ),
    ],
)
def test_a_jobs_detail_is_read_whatever_parts_are_missing(parsed: dict[str, object], detail: JobDetail) -> None:
    assert job_detail(parsed) == detail


def test_three_states_are_final() -> None:
    states = ("CREATED", "PENDING", "STARTED", "CANCELING", "RETRY", "SUCCESS", "FAILURE", "REVOKED")

    assert [state for state in states if job_detail({"status": state}).is_final] == ["SUCCESS", "FAILURE", "REVOKED"]
