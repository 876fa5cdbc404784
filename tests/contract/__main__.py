"""Rewrite the snapshots of the OpenAPI documents: `make openapi`."""

from __future__ import annotations

from tests.contract.services import SNAPSHOTS, documents, snapshot, text_of

SNAPSHOTS.mkdir(parents=True, exist_ok=True)
for service, document in documents().items():
    snapshot(service).write_text(text_of(document), "utf-8")
    print(snapshot(service))
