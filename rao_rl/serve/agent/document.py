"""The OpenAPI document of the agent's routes. They choose by `model` who reads a body, which FastAPI cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

_REFERENCE = "#/components/schemas/{model}"


def document_bodies(app: FastAPI, bodies: Mapping[str, type[BaseModel] | None], *, agent: str, raw: str | None) -> None:
    """Describe the bodies of POST requests, by path; `None` where only the raw model reads them."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            for path, model in bodies.items():
                readers: list[dict[str, Any]] = []
                if model is not None:
                    readers.append(_add(schemas, model, agent))
                if raw is not None:
                    readers.append(_raw(raw))
                schema = readers[0] if len(readers) == 1 else {"anyOf": readers}
                content = {"application/json": {"schema": schema}}
                document["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _add(schemas: dict[str, Any], model: type[BaseModel], agent: str) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_REFERENCE)
    for name, part in schema.pop("$defs", {}).items():
        schemas.setdefault(name, part)
    schema["properties"]["model"] = {"type": "string", "const": agent}
    schemas[model.__name__] = schema
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _raw(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "For the raw model: whatever its endpoint takes.",
        "properties": {"model": {"const": name}},
        "required": ["model"],
        "additionalProperties": True,
    }
