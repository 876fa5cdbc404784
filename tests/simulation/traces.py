"""Looking for secrets in all that an institution keeps: tables, logs, exports, and what is coded inside of them."""

from __future__ import annotations

import io
import re
import zipfile
from base64 import b64decode
from collections.abc import Mapping

import asyncpg

_TOKENS = (re.compile(r"[A-Za-z0-9]+"), re.compile(r"[0-9]+"), re.compile(r"[A-Za-z]+"))
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


async def database_text(url: str) -> str:
    """Return every column of every row of every table."""
    connection = await asyncpg.connect(url)
    try:
        found = []
        for (table,) in await connection.fetch(TABLES):
            for row in await connection.fetch(f"SELECT * FROM {table}"):
                found += [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
        return "\n".join(found)
    finally:
        await connection.close()


def archive_text(data: bytes) -> str:
    """Return the names and contents of a ZIP's files."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return "\n".join(f"{name}\n{archive.read(name).decode('latin-1')}" for name in archive.namelist())


def found_in(text: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that stand in a text, or in what is base64 in it."""
    tokens = _tokens(text)
    for coded in _BASE64.findall(text):
        if len(coded) % 4 == 0:
            tokens |= _tokens(b64decode(coded).decode("latin-1"))
    return {secret: what for secret, what in secrets.items() if secret in tokens}


def _tokens(text: str) -> set[str]:
    return {token for pattern in _TOKENS for token in pattern.findall(text)}
