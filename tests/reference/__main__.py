"""Rewrite the generated pages of docs/reference: `make reference`."""

from __future__ import annotations

from tests.contract.services import documents
from tests.reference.pages import pages

for path, text in pages(documents()).items():
    path.write_text(text, "utf-8")
    print(path)
