"""The published API descriptions are what the services serve, and complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.federation.problems import PROBLEM_MEDIA_TYPE
from participants.roles import Role
from tests.contract.services import SERVICES, documents, snapshot, text_of

ROLES = {"participant", "operator", "auditor", "staff", "agent", "coordinator"} | set(Role)


CLOSED_ANSWERS = {"Envelope", "ProvenStatement", "ScreeningList"}
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


def found(value: Any, member: str) -> Iterator[Any]:
    """Yield the values of a member, wherever in a document it stands as part of a schema."""
    if isinstance(value, dict):
        if member in value and not isinstance(value[member], dict):
            yield value[member]
        for inner in value.values():
            yield from found(inner, member)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, member)


@pytest.mark.parametrize("service", SERVICES)
def test_any_reader_takes_its_schemas(served: dict[str, dict[str, Any]], service: str) -> None:
    """Generators of clients stop at `items: false`, and readers in Go or Rust at patterns that look ahead."""
    assert not [value for value in found(served[service], "items") if isinstance(value, bool)]
    for pattern in {value for value in found(served[service], "pattern") if isinstance(value, str)}:
        # The engine of RE2's kind: what it can't match in linear time it refuses.
        options = jsonschema_rs.RegexOptions()
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern


@pytest.mark.parametrize("service", SERVICES)
def test_each_body_has_an_example_that_is_taken(served: dict[str, dict[str, Any]], service: str) -> None:
    components = served[service]["components"]
    for where, operation in operations(served[service]):
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if media_type == "application/json":
                schema = {**content["schema"], "components": components}
                assert jsonschema_rs.is_valid(schema, content["example"]), (where, content["example"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_refusal_has_its_status_its_codes_and_its_headers(
    served: dict[str, dict[str, Any]], service: str
) -> None:
    document = served[service]
    answers = document["components"]["responses"]
    codes = set(document["components"]["schemas"]["Problem"]["properties"]["code"]["x-extensible-enum"])
    assert {"validation_failed", "role_not_allowed", "bad_signature", "token_missing"} <= codes
    for status, answer in answers.items():
        named = set(re.findall(r"`([a-z0-9_]+)`", answer["description"]))
        assert named, status
        assert named <= codes, status
        assert "X-Correlation-ID" in answer["headers"]
    headers = {status: set(answer["headers"]) - {"X-Correlation-ID"} for status, answer in answers.items()}
    assert headers["401"] == {"WWW-Authenticate"}
    assert headers["415"] == {"Accept"}
    assert headers["429"] == headers["503"] == {"Retry-After"}
    for where, operation in operations(document):
        said = set(operation["responses"])
        assert {"400", "429", "503", "default"} <= said, where
        if operation["security"]:
            assert {"401", "403"} <= said, where
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"413", "415", "409", "422"} <= said, where


@pytest.mark.parametrize("service", SERVICES)
def test_links_lead_to_what_is_there(served: dict[str, dict[str, Any]], service: str) -> None:
    """Each value in a path comes from an answer, where any answer has it."""
    takes = {
        operation["operationId"]: {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        for _, operation in operations(served[service])
    }
    reached = set()
    for where, operation in operations(served[service]):
        for status, answer in operation["responses"].items():
            for link in answer.get("links", {}).values():
                assert status.startswith("2")
                assert link["parameters"].keys() <= takes[link["operationId"]], where
                reached.add(link["operationId"])
    assert {name for name, parameters in takes.items() if parameters} == reached


@pytest.mark.parametrize("service", SERVICES)
def test_parameters_say_what_they_take(served: dict[str, dict[str, Any]], service: str) -> None:
    """By the schema that is checked, which has a bound for everything."""
    for where, operation in operations(served[service]):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"].get("items", parameter["schema"])
            bounds = schema.keys() & {"pattern", "maximum", "maxLength", "enum", "format", "$ref"}
            assert bounds or schema.get("type") == "boolean", (where, parameter)


FEEDS = {"listEvents", "listMovements", "listNotifications"}
"""They have no end: `next` is where to ask again."""


@pytest.mark.parametrize("service", SERVICES)
def test_every_list_has_a_cursor(served: dict[str, dict[str, Any]], service: str) -> None:
    schemas = served[service]["components"]["schemas"]
    for where, operation in operations(served[service]):
        content = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
        schema = content.get("schema", {})
        members = schemas.get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
        if where.startswith("GET ") and (schema.get("type") == "array" or "next" in members):
            takes = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
            feed = operation["operationId"] in FEEDS
            assert takes >= ({"after", "limit"} if feed else {"cursor", "limit"}), where
            assert feed or "Link" in operation["responses"]["200"]["headers"], where
