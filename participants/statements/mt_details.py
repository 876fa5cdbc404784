"""What field :86: says of an entry, in the dialects that banks have.

- structured with two digits (`166?00GUTSCHRIFT?20EREF+…?32NAME`), in German; Polish banks have other marks than `?`;
- structured with words (`/EREF/…/REMI/…`), as Dutch banks and SWIFT's own rules have it;
- labels within a text (`Z RACH.: …; OD: …; TYT.: …`), of a Polish bank;
- an account and a name, then text, of a Dutch bank;
- and text alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LINE_CHARACTERS = 65

_NUMBERED = re.compile(r"([0-9]{3})?([?~<>^@|!*+&#])(?=[0-9]{2})")
_SEPA = re.compile(r"(EREF|KREF|MREF|CRED|DEBT|SVWZ|ABWA|ABWE|IBAN|BIC|COAM|OAMT|RREF|PURP)\+")
_SEPA_REFERENCES = {
    "EREF": "end_to_end_id",
    "KREF": "customer",
    "MREF": "mandate",
    "CRED": "creditor",
    "RREF": "return",
}
_WORDS = re.compile(
    r"/(EREF|PREF|MARF|CSID|REMI|NAME|IBAN|BIC|CNTP|ORDP|BENM|ULTD|ULTB|TRTP|TRCD|RTRN|PURP|ISDT|UETR|BUSP|ADDR|ACCW|OCMT"
    r"|CHGS|TXID|IREF|KREF|EXCH|SVCL|UDTR|UCRD)/"
)
_WORD_REFERENCES = {
    "EREF": "end_to_end_id",
    "PREF": "payment_information_id",
    "MARF": "mandate",
    "CSID": "creditor",
    "UETR": "uetr",
    "TXID": "tx_id",
    "IREF": "instruction_id",
    "KREF": "customer",
}
_LABELS = re.compile(r"(?:^|; ?)((?:NA|Z) RACH\.|OD|DLA|TYT\.|TNR|ID IPH): ?")
_ACCOUNT_FIRST = re.compile(r"([A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}) +(\S[^\n]*)")
_ACCOUNT = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")


@dataclass(slots=True)
class Details:
    """What the text of an entry says."""

    text: str | None = None
    references: dict[str, str] = field(default_factory=dict)
    counterparty: str | None = None
    account: str | None = None
    agent: str | None = None
    code: str | None = None


def details(content: str, *, reference: str = "") -> Details:
    """Return what field :86: says. `reference` is the one of its entry, which some banks give the account as."""
    numbered = _NUMBERED.match(content)
    if numbered:
        return _numbered(content[numbered.end() :].replace("\n", ""), numbered[1] or "", numbered[2])
    if content.lstrip()[:1] == "/" and _WORDS.search(content):
        return _worded(content)
    account_first = _ACCOUNT_FIRST.match(content)
    if account_first and account_first[1] == reference:
        text = unfolded(content[account_first.end() :])
        return Details(text=text, counterparty=account_first[2].strip(), account=account_first[1])
    text = unfolded(content)
    if text and _LABELS.search(text):
        return _labelled(text)
    return Details(text=text)


def unfolded(content: str) -> str | None:
    """Return a text whose lines were broken: where a line is full, a word may go on; elsewhere a space stood there."""
    if "\n" not in content:
        return content.strip() or None
    lines = [line if len(line) >= LINE_CHARACTERS else line.rstrip() + " " for line in content.split("\n")]
    return " ".join("".join(lines).split()) or None


def _numbered(content: str, transaction: str, mark: str) -> Details:
    result = Details(code=transaction or None)
    remittance: list[str] = []
    name: list[str] = []
    for part in content.split(mark):
        number, value = part[:2], part[2:]
        if number == "00":
            if value.strip():
                result.code = f"{transaction} {value.strip()}".strip()
        elif "20" <= number <= "29" or "60" <= number <= "65":
            remittance.append(value)
        elif number == "30":
            result.agent = value.strip() or None
        elif number == "31" or (number == "38" and result.account is None):
            result.account = value.strip() or None
        elif number in ("32", "33"):
            name.append(value)
    result.counterparty = "".join(name).strip() or None
    _sepa(remittance, result)
    return result


def _sepa(remittance: list[str], result: Details) -> None:
    """Take references out of the text that SEPA keywords structure; without them it is all text."""
    text = "".join(remittance)
    pieces = _SEPA.split(text)
    said = [pieces[0].strip()] if pieces[0].strip() else []
    for keyword, value in zip(pieces[1::2], pieces[2::2], strict=True):
        value = value.strip()
        if not value:
            continue
        if keyword in _SEPA_REFERENCES:
            result.references.setdefault(_SEPA_REFERENCES[keyword], value)
        elif keyword == "SVWZ":
            said.append(value)
        elif keyword in ("ABWA", "ABWE"):
            result.references.setdefault("ultimate_party", value)
        elif keyword == "IBAN":
            result.account = result.account or value
        elif keyword == "BIC":
            result.agent = result.agent or value
    result.text = " ".join(said) or None


def _worded(content: str) -> Details:
    result = Details()
    pieces = _WORDS.split(
        "".join(line if len(line) >= LINE_CHARACTERS else line.rstrip() for line in content.split("\n"))
    )
    said = [pieces[0].strip("/ ")] if pieces[0].strip("/ ") else []
    for word, raw in zip(pieces[1::2], pieces[2::2], strict=True):
        value = raw.strip("/ ")
        if not value:
            continue
        if word in _WORD_REFERENCES:
            result.references.setdefault(_WORD_REFERENCES[word], value)
        elif word == "REMI":
            said.append(re.sub(r"^(?:USTD|STRD)?//?|^(?:USTD|STRD)/", "", value).strip("/ "))
        elif word == "NAME":
            result.counterparty = result.counterparty or value
        elif word == "IBAN":
            result.account = result.account or value
        elif word == "BIC":
            result.agent = result.agent or value
        elif word == "CNTP":
            _counterparty(raw, result)
        elif word in ("TRTP", "TRCD"):
            result.code = result.code or value
    result.text = " ".join(said) or None
    return result


def _counterparty(raw: str, result: Details) -> None:
    """Read account/BIC/name/city, any of them empty."""
    account, bic, name = [*raw.split("/"), "", "", ""][:3]
    if _ACCOUNT.fullmatch(account.strip()):
        result.account = result.account or account.strip()
    if _BIC.fullmatch(bic.strip()):
        result.agent = result.agent or bic.strip()
    result.counterparty = result.counterparty or name.strip() or None


def _labelled(text: str) -> Details:
    pieces = _LABELS.split(text)
    result = Details(code=pieces[0].strip(" ;") or None)
    for label, raw in zip(pieces[1::2], pieces[2::2], strict=True):
        value = raw.strip(" ;")
        if not value:
            continue
        if label.endswith("RACH."):
            result.account = value
        elif label in ("OD", "DLA"):
            result.counterparty = value
        elif label == "TYT.":
            result.text = value
        elif label == "TNR":
            result.references["bank_transaction"] = value
        else:
            result.references["virtual_account"] = value
    return result
