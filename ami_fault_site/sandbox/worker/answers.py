"""Say what a worker answers for a task."""

from __future__ import annotations

from typing import TypedDict


class Answer(TypedDict):
    """What is posted for one task: the pipeline's response, or an error with its image id."""

    reply_subject: str | None
    result: dict[str, object]


def error_answer(reply_subject: str | None, image_id: str | None, error: str) -> Answer:
    """Return the answer for a task that could not be processed; the service takes it as final."""
    return {"reply_subject": reply_subject, "result": {"error": error, "image_id": image_id}}
