"""Reading payments by the thousand: each member as a text first, then all of them by one expression.

A pattern for each member costs ten times as much as the rest of decoding a payment. The expression takes nothing that
a member's own pattern refuses; whatever it doesn't take is left to those patterns, which decide, and say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from compliance.crypto import canonical
from compliance.statements import CurrencyCode, PaymentAmount, inside
from gateway.federation.messages.base import (
    REFERENCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    AccountCode,
    Instant,
    Uetr,
    Uuid,
)
from gateway.federation.messages.payments import BATCH_ITEMS_MAX, PaymentBatch, PaymentTerms

T = TypeVar("T", bound=Struct)

# What canonical JSON writes as it is.
UNESCAPED, VISIBLE_ASCII = r'[^"\\\x00-\x1f\x7f]', r"[!#-\[\]-~]"
_TEXT, _REFERENCE = rf"{UNESCAPED}{{1,{TEXT_CHARACTERS_MAX}}}", rf"{VISIBLE_ASCII}{{1,{REFERENCE_CHARACTERS_MAX}}}"
_DETAILS = {
    "amount_minor": inside(PaymentAmount),
    "creditor_account": inside(AccountCode),
    "creditor_name": _TEXT,
    "currency": inside(CurrencyCode),
    "debtor_account": inside(AccountCode),
    "debtor_name": _TEXT,
    "end_to_end_id": _REFERENCE,
    "expires_at": inside(Instant),
    "id": inside(Uuid),
    "instruction_id": _REFERENCE,
    "remittance": _TEXT,
    "uetr": inside(Uetr),
}
_OPTIONAL = {field.name for field in msgspec.structs.fields(PaymentTerms) if not field.required}


def members_form(more: Mapping[str, str] = {}) -> str:
    """Return the expression of a payment's canonical text after its first brace; what returns others isn't in it.

    `more` are members that it has besides, each with its form.
    """
    members = sorted((_DETAILS | dict(more)).items())
    return (
        "".join(
            rf'(?:{comma}"{member}":"{form}")' + ("?" if member in _OPTIONAL else "")
            for (member, form), comma in zip(members, ("", *[","] * len(members)), strict=False)
        )
        + "}"
    )


def texts_of(kind: type[T], *more: str) -> type[T]:
    """Return a kind of payment, or of order, whose members in the expression are asked to be texts and no more.

    `more` are those that the expression has besides.
    """
    members: list[Any] = []
    for field in msgspec.structs.fields(kind):
        if field.required and field.name in (*_DETAILS, *more):
            members.append((field.name, str))
        elif field.name in (*_DETAILS, *more):
            members.append((field.name, str | None if field.default is None else str, field.default))
    texts = msgspec.defstruct(f"{kind.__name__}Texts", members, bases=(kind,), frozen=True, kw_only=True, gc=False)
    return cast("type[T]", texts)


class _RawBatch(PaymentBatch, frozen=True, kw_only=True):
    """A batch whose payments are still to be read, one by one."""

    payments: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]  # type: ignore[assignment]


_decode_batch = msgspec.json.Decoder(_RawBatch).decode
_decode_terms = msgspec.json.Decoder(texts_of(PaymentTerms)).decode
_matches = re.compile(r"\{" + members_form()).fullmatch


def decode_batch(data: bytes) -> PaymentBatch:
    """Do what `canonical.decode` does of a batch. Raises what it does."""
    batch = _plain_batch(data)
    if batch is None or canonical.encode(batch) != data:
        return canonical.decode(data, PaymentBatch)
    return batch


def _plain_batch(data: bytes) -> PaymentBatch | None:
    """Return a batch whose payments are all of the plain form, or None."""
    try:
        raw: Any = _decode_batch(data)
        if not all(_matches(str(payment, "utf-8")) for payment in raw.payments):
            return None
        payments = tuple([PaymentTerms(**asdict(_decode_terms(payment))) for payment in raw.payments])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return PaymentBatch(
        sender=raw.sender, receiver=raw.receiver, root=raw.root, payments=payments, withdrawn=raw.withdrawn
    )
