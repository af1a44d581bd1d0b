"""Errors as HTTP answers: problem details (RFC 9457) with the stable code of the error tree."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from imarium.custody import StoreBusy, TooMuchPending
from imarium.errors import (
    DeviceError,
    ImariumError,
    MalformedInput,
    MissingComponent,
    RefusedOperation,
    UsageError,
)
from imarium.securityfs import ListBusy

__all__ = ["PROBLEM_TYPE", "Problem", "ProblemDetails", "answer_problems", "problem_response", "status_of"]

PROBLEM_TYPE = "application/problem+json"

_RETRY_SECONDS = "1"
_STATUSES: tuple[tuple[type[ImariumError], HTTPStatus], ...] = (
    (StoreBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (ListBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (TooMuchPending, HTTPStatus.SERVICE_UNAVAILABLE),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (RefusedOperation, HTTPStatus.CONFLICT),
    (DeviceError, HTTPStatus.BAD_GATEWAY),
    (MissingComponent, HTTPStatus.SERVICE_UNAVAILABLE),
    (MalformedInput, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""The first class that fits decides. What is wrong with the store or the kernel passes when it is mended: 503."""

_CODES = {
    HTTPStatus.BAD_REQUEST: "bad_request",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
}


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457). Programs look at ``code``."""

    type: str = Field(description="A URN with the code.")
    title: str = Field(description="The status in words.")
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str = Field(description="One line for people, which says what to do.")


class Problem(Exception):
    """An answer that is a problem; ``headers`` go with it."""

    def __init__(self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.headers = dict(headers or {})
        super().__init__(detail)


def problem_response(problem: Problem) -> Response:
    """The answer."""
    details = ProblemDetails(
        type=f"urn:imarium:problem:{problem.code}",
        title=problem.status.phrase,
        status=problem.status.value,
        code=problem.code,
        detail=" ".join(str(problem).split()),
    )
    headers = dict(problem.headers)
    if problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", _RETRY_SECONDS)
    return JSONResponse(details.model_dump(), problem.status.value, headers, PROBLEM_TYPE)


def status_of(error: ImariumError) -> HTTPStatus:
    """The status for an error of imarium's own."""
    found = (status for kind, status in _STATUSES if isinstance(error, kind))
    return next(found, HTTPStatus.SERVICE_UNAVAILABLE)


def _says_json(request: Request) -> bool:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media == "application/json" or (media.startswith("application/") and media.endswith("+json"))


def answer_problems(app: FastAPI) -> None:
    """Have ``app`` answer every error with problem details."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, problem: Problem) -> Response:
        return problem_response(problem)

    @app.exception_handler(ImariumError)
    async def _own(_request: Request, error: ImariumError) -> Response:
        return problem_response(Problem(status_of(error), error.code, str(error)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        if not _says_json(request) and any(fault["loc"] == ("body",) for fault in error.errors()):
            faults.insert(0, "a body is read as JSON only with the header 'Content-Type: application/json'")
        return problem_response(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "; ".join(faults)[:500]))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        code = _CODES.get(status, "http")
        return problem_response(Problem(status, code, str(error.detail), error.headers))
