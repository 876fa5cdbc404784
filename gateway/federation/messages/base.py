"""What every message is made of: the closed base, and the forms of ids, accounts and names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from compliance.statements import whole

Uuid = Annotated[str, Meta(pattern=whole(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"))]
ACCOUNT_PATTERN = whole(r"[A-Za-z0-9._:/-]{1,64}")
AccountCode = Annotated[str, Meta(pattern=ACCOUNT_PATTERN)]
PartyName = Annotated[str, Meta(min_length=1, max_length=140, pattern=whole(r"[^\x00-\x1f\x7f]*"))]
Remittance = Annotated[str, Meta(max_length=140, pattern=whole(r"[^\x00-\x1f\x7f]*"))]


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of every message: closed schema."""
