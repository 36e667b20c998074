"""Answer HTTP as the Antenna platform does, from the jobs and the queue behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as RoutingException

from ami_fault_site.sandbox import bodies, polls, shapes
from ami_fault_site.sandbox.backend import Backend, handed_out
from ami_fault_site.sandbox.jobs import LOGS_LIMIT, LOGS_MOST, Answer, Job
from ami_fault_site.sandbox.options import SandboxInfo
from ami_fault_site.sandbox.photographs import Photograph
from ami_fault_site.sandbox.queue import QueueUnavailable

API = "/api/v2"
_NOT_FOUND, _NOT_ALLOWED = 404, 405
_LARGE_BODY = 1_000_000
_LOOPBACK = ("127.0.0.1", "::1")


def make_app(backend: Backend, info: SandboxInfo, album: Sequence[Photograph]) -> FastAPI:
    """Join the calls into an application."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.include_router(_routes(_Calls(backend, info.token)), prefix=API)
    _add_own_calls(app, info, {photograph.name: photograph for photograph in album})
    app.add_exception_handler(RoutingException, _refused)
    app.add_exception_handler(bodies.BadBody, _malformed)
    app.add_exception_handler(QueueUnavailable, _unavailable)
    return app


def _routes(calls: _Calls) -> APIRouter:
    router = APIRouter(redirect_slashes=False)
    job = "/jobs/{number:int}/"
    router.add_api_route("/jobs/", calls.poll, methods=["GET"])
    router.add_api_route("/jobs/", calls.create, methods=["POST"])
    router.add_api_route(job, calls.detail, methods=["GET"])
    router.add_api_route(f"{job}tasks/", calls.tasks, methods=["POST"])
    router.add_api_route(f"{job}result/", calls.result, methods=["POST"])
    router.add_api_route(f"{job}run/", calls.run, methods=["POST"])
    router.add_api_route(f"{job}retry/", calls.retry, methods=["POST"])
    router.add_api_route(f"{job}cancel/", calls.cancel, methods=["POST"])
    router.add_api_route("/ml/pipelines/", calls.pipelines, methods=["GET"])
    router.add_api_route("/projects/", calls.projects, methods=["GET"])
    router.add_api_route("/projects/{number:int}/pipelines/", calls.register, methods=["POST"])
    return router


class _Calls:
    """The calls under /api/v2, one method each."""

    def __init__(self, backend: Backend, token: str) -> None:
        self._backend = backend
        self._token = token

    async def poll(self, request: Request) -> Response:
        reader = self._reader(request)
        _check_project(request)
        query = request.query_params
        page = polls.page(self._backend.jobs.values(), query, str(request.url), self._backend.chance)
        if polls.wants_ids_only(query):
            listed = [shapes.short_job(job, reader) for job in page.jobs]
        else:
            listed = [shapes.listed_job(job, self._backend.pipeline_of(job), reader) for job in page.jobs]
        return _listing(listed, reader, page)

    async def create(self, request: Request) -> Response:
        reader = self._writer(request)
        wanted = bodies.read_job(await request.body(), list(self._backend.pipelines))
        job = self._backend.create_job(wanted.name, self._backend.pipelines[wanted.pipeline], wanted.limit)
        if request.query_params.get("start_now", "").lower() in ("1", "true", "yes"):
            self._backend.start_soon(job)
        return self._show(job, reader, 201)

    async def detail(self, number: int, request: Request) -> Response:
        reader = self._reader(request)
        job = self._job(number)
        limit = bodies.read_logs_limit(request.query_params.get("logs_limit"), LOGS_LIMIT, LOGS_MOST)
        return self._show(job, reader, limit=limit)

    async def tasks(self, number: int, request: Request) -> Response:
        self._writer(request)
        count = bodies.read_batch_size(await request.body())
        delivered = await self._backend.hand_out(self._job(number), count)
        return JSONResponse({"tasks": [handed_out(delivery) for delivery in delivered]})

    async def result(self, number: int, request: Request) -> Response:
        self._writer(request)
        job = self._job(number)
        if self._backend.refuses_results():
            return Response("<h1>Server Error (500)</h1>", 500, media_type="text/html")
        body = await request.body()
        # A small body is read at once; in a thread, a large one holds up nobody but its sender while it is counted.
        answers = bodies.read_answers(body) if len(body) < _LARGE_BODY else await _in_thread(body)
        tickets = self._backend.accept(job, answers)
        queued = [
            {"reply_subject": answer.reply, "status": "queued", "task_id": ticket}
            for answer, ticket in zip(answers, tickets, strict=True)
        ]
        return JSONResponse({"status": "accepted", "job_id": number, "results_queued": len(queued), "tasks": queued})

    async def run(self, number: int, request: Request) -> Response:
        reader = self._writer(request)
        job = self._job(number)
        self._backend.start_soon(job)
        return self._show(job, reader)

    async def retry(self, number: int, request: Request) -> Response:
        reader = self._writer(request)
        job = self._job(number)
        self._backend.retry(job)
        return self._show(job, reader)

    async def cancel(self, number: int, request: Request) -> Response:
        reader = self._writer(request)
        job = self._job(number)
        await self._backend.cancel(job)
        return self._show(job, reader)

    async def pipelines(self, request: Request) -> Response:
        reader = self._reader(request)
        _check_project(request)
        return _listing([shapes.listed_pipeline(one, reader) for one in self._backend.pipelines.values()], reader)

    async def projects(self, request: Request) -> Response:
        reader = self._reader(request)
        return _listing([shapes.project(reader)], reader)

    async def register(self, number: int, request: Request) -> Response:
        self._writer(request)
        declared = bodies.read_registration(await request.body())
        if number != shapes.PROJECT_ID:
            raise HTTPException(_NOT_FOUND)
        pipelines, algorithms = self._backend.register(declared)
        answer = {
            "timestamp": datetime.fromtimestamp(self._backend.clock()).isoformat(),
            "success": True,
            "error": None,
            "pipelines": [],
            "pipelines_created": pipelines,
            "algorithms_created": algorithms,
        }
        return JSONResponse(answer, 201)

    def _job(self, number: int) -> Job:
        job = self._backend.jobs.get(number)
        if job is None:
            raise HTTPException(_NOT_FOUND)
        return job

    def _show(self, job: Job, reader: shapes.Reader, status: int = 200, limit: int = LOGS_LIMIT) -> Response:
        return JSONResponse(shapes.job_detail(job, self._backend.pipeline_of(job), reader, job.newest(limit)), status)

    def _reader(self, request: Request) -> shapes.Reader:
        """Let in everybody without a token and with the right one; nobody with a wrong one."""
        base_url = f"{request.url.scheme}://{request.url.netloc}{API}"
        kind, *rest = request.headers.get("authorization", "").split() or [""]
        if kind.lower() != "token":
            return shapes.Reader(base_url, has_token=False)
        if rest != [self._token]:
            raise _unauthorized("Invalid token.")
        return shapes.Reader(base_url, has_token=True)

    def _writer(self, request: Request) -> shapes.Reader:
        """Let in only those with the right token."""
        reader = self._reader(request)
        if not reader.has_token:
            raise _unauthorized("Authentication credentials were not provided.")
        return reader


async def _in_thread(body: bytes) -> list[Answer]:
    return await asyncio.to_thread(bodies.read_answers, body)


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": "Token"})


def _check_project(request: Request) -> None:
    asked = request.query_params.get("project_id", "")
    if asked not in ("", str(shapes.PROJECT_ID)):
        raise HTTPException(_NOT_FOUND)


def _listing(items: Sequence[shapes.JsonObject], reader: shapes.Reader, page: polls.Page | None = None) -> Response:
    beside = {"next": page.after if page else None, "previous": page.before if page else None}
    count = page.count if page else len(items)
    return JSONResponse({"count": count, **beside, "results": list(items), "user_permissions": reader.may("create")})


def _add_own_calls(app: FastAPI, info: SandboxInfo, album: dict[str, Photograph]) -> None:
    """Add what the platform has elsewhere or not at all: the pictures, and what this sandbox is."""

    async def captures(name: str) -> Response:
        photograph = album.get(name)
        if photograph is None:
            raise HTTPException(_NOT_FOUND)
        # Drawn or read when first asked for, and not on the loop: nobody's tasks wait for a picture.
        return Response(await asyncio.to_thread(photograph.content), media_type=photograph.media_type)

    async def sandbox(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            raise HTTPException(_NOT_FOUND)
        return JSONResponse(asdict(info))

    app.add_api_route("/captures/{name}", captures, methods=["GET"])
    app.add_api_route("/sandbox/", sandbox, methods=["GET"])


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RoutingException):
        raise error
    path = request.url.path
    if error.status_code == _NOT_FOUND and path.startswith(f"{API}/") and not path.endswith("/"):
        # 301 and not 307, for POST too: that is what makes a client turn its POST into a GET, and get a 405.
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{path}/{query}", 301)
    texts = {_NOT_FOUND: "Not found.", _NOT_ALLOWED: f'Method "{request.method}" not allowed.'}
    detail = texts.get(error.status_code, error.detail)
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, bodies.BadBody):
        raise error
    return JSONResponse(error.answer, 400)


async def _unavailable(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "Task queue temporarily unavailable"}, 503)
