"""The published API descriptions are what the services serve, and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.federation.problems import PROBLEM_MEDIA_TYPE
from participants.roles import Role
from tests.contract.services import SERVICES, documents, snapshot, text_of

ROLES = {"participant", "operator", "auditor", "staff", "agent", "coordinator"} | set(Role)


CLOSED_ANSWERS = {"Envelope", "ScreeningList"}
"""What is signed, or may be a request too."""


@pytest.fixture(scope="module")
def served() -> dict[str, dict[str, Any]]:
    return documents()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


@pytest.mark.parametrize("service", SERVICES)
def test_the_snapshot_is_what_is_served(served: dict[str, dict[str, Any]], service: str) -> None:
    kept = snapshot(service).read_text("utf-8")
    assert kept == text_of(served[service]), "the API has changed: look at it, run `make openapi`, tell the CHANGELOG"


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_named_and_explained(served: dict[str, dict[str, Any]], service: str) -> None:
    names = [operation["operationId"] for _, operation in operations(served[service])]
    assert len(set(names)) == len(names)
    for where, operation in operations(served[service]):
        # Litestar makes a name from path and function where none is given; ours begin with a small letter.
        assert re.fullmatch(r"[a-z][A-Za-z]+", operation["operationId"]), where
        assert operation["summary"].endswith("."), where
        assert operation["tags"], where


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_says_who_may_and_how_it_refuses(served: dict[str, dict[str, Any]], service: str) -> None:
    assert served[service]["openapi"].startswith("3.1")
    for where, operation in operations(served[service]):
        roles = {role for alternative in operation["security"] for role in alternative["bearer"]}
        assert roles <= ROLES, where
        assert list(operation["responses"]["default"]["content"]) == [PROBLEM_MEDIA_TYPE], where
        assert any(status.startswith("2") for status in operation["responses"]), where


@pytest.mark.parametrize("service", SERVICES)
def test_every_reference_leads_somewhere(served: dict[str, dict[str, Any]], service: str) -> None:
    text = text_of(served[service])
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert used == set(served[service]["components"]["schemas"])


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_taken_in_is_closed(served: dict[str, dict[str, Any]], service: str) -> None:
    schemas = served[service]["components"]["schemas"]
    for where, operation in operations(served[service]):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            name = body["schema"].get("$ref", "").rpartition("/")[2]
            if name:
                assert schemas[name].get("additionalProperties") is False, where


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_answered_is_open(served: dict[str, dict[str, Any]], service: str) -> None:
    """Whoever makes a client of this must not close what may grow."""
    schemas = served[service]["components"]["schemas"]
    for where, operation in operations(served[service]):
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                if status != "default" and media_type == "application/json" and name not in CLOSED_ANSWERS:
                    assert schemas.get(name, {}).get("additionalProperties") is not False, (where, name)
