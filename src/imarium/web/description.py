"""The API in the words of OpenAPI: what FastAPI cannot tell from the routes' types."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from imarium.web.documents import RecordsDocument
from imarium.web.problems import PROBLEM_TYPE, ProblemDetails
from imarium.web.records import Form

__all__ = ["EVIDENCE_ANSWERS", "EVIDENCE_TYPE", "RECORDS_ANSWERS", "describe"]

Answers = dict[int | str, dict[str, Any]]

EVIDENCE_TYPE = "application/cbor"

_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_RECORDS_HEADERS: dict[str, Any] = {
    "ETag": {"schema": {"type": "string"}, "description": "Names this body."},
    "Imarium-Log": {"schema": {"type": "integer"}, "description": "The log's number."},
    "Imarium-From": {"schema": {"type": "integer"}, "description": "The first record."},
    "Imarium-Next": {"schema": {"type": "integer"}, "description": "The record to ask for next."},
    "Imarium-Records": {"schema": {"type": "integer"}, "description": "How many records there are."},
    "Imarium-Kept": {"schema": {"type": "integer"}, "description": "How many of them are kept."},
    "Imarium-Closed": {"schema": {"type": "boolean"}, "description": "The log gets no more records."},
    "Imarium-Layout": {"schema": {"type": "string"}, "description": "What the list does not say about itself."},
}
_RECORDS_CONTENT: dict[str, Any] = {
    Form.BINARY.media_type: {"schema": _BINARY},
    Form.ASCII.media_type: {"schema": _BINARY},
    Form.JSON.media_type: {"schema": {"$ref": "#/components/schemas/RecordsDocument"}},
}
RECORDS_ANSWERS: Answers = {
    200: {"description": "The records.", "headers": _RECORDS_HEADERS, "content": _RECORDS_CONTENT},
    206: {"description": "Some bytes of them.", "content": {Form.BINARY.media_type: {"schema": _BINARY}}},
    304: {"description": "Nothing new."},
}
EVIDENCE_ANSWERS: Answers = {
    200: {"description": "Evidence (docs/evidence.cddl).", "content": {EVIDENCE_TYPE: {"schema": _BINARY}}}
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The API in the words of OpenAPI. Whatever is not described with a request is a problem."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for model in (ProblemDetails, RecordsDocument):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= described.pop("$defs", {})
        schemas[model.__name__] = described
    problem = {"$ref": "#/components/schemas/ProblemDetails"}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "A problem.",
                "content": {PROBLEM_TYPE: {"schema": problem}},
            }
    return document
