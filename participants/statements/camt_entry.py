"""An entry of a camt document, and the transactions that it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from participants.statements.amounts import iso_day, minor_units
from participants.statements.camt_elements import BOOLEANS, COUNT, Branch
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Entry, Finding, Place, Status, best_reference

_STATUSES: dict[str, Status] = {"BOOK": "booked", "PDNG": "pending", "FUTR": "pending", "INFO": "info"}
_REFERENCES = {
    "MsgId": "msg_id",
    "AcctSvcrRef": "account_servicer",
    "PmtInfId": "payment_information_id",
    "InstrId": "instruction_id",
    "EndToEndId": "end_to_end_id",
    "UETR": "uetr",
    "TxId": "tx_id",
    "MndtId": "mandate",
    "ChqNb": "cheque",
    "ClrSysRef": "clearing_system",
    "AcctOwnrTxId": "account_owner_tx_id",
    "AcctSvcrTxId": "account_servicer_tx_id",
    "MktInfrstrctrTxId": "market_infrastructure_tx_id",
    "PrcgId": "processing_id",
}


class EntryReader:
    """One `Ntry`: its own amount, signed, and the entries that it is for a reader."""

    def __init__(self, branch: Branch, place: Place) -> None:
        self._place = place
        self._branch = branch
        amount, self.currency = _amount(branch, place)
        self._credit = _is_credit(branch, place)
        self.amount = amount if self._credit else -amount
        self._reversal = "RvslInd" in branch and self._is_reversal(branch["RvslInd"])
        self._status = self._read_status(branch.get("Sts"))
        self._booking_date = self._day("BookgDt")
        self._value_date = self._day("ValDt")
        self._code = _code(branch)
        self._incomplete = False
        self._references: dict[str, str] = {}
        if text := branch.get("AcctSvcrRef"):
            self._references["account_servicer"] = text
        if text := branch.get("NtryRef"):
            self._references["entry"] = text

    def entries(self, findings: list[Finding]) -> Sequence[Entry]:
        """Return an entry per transaction where their amounts add up to it; otherwise itself alone, and a finding."""
        if self._status is None:
            findings.append(
                Finding("status_unknown", "a status of its sender's own; taken as information", self._place)
            )
        transactions = self._transactions(findings) if "NtryDtls" in self._branch else ()
        if not transactions:
            return (self._entry(self._place, self.amount, {}),)
        if len(transactions) == 1:
            amount = self._transaction_amount(transactions[0], self._place)
            if self._incomplete and amount != self.amount:
                return (self._entry(self._place, self.amount, {}),)
            if amount is not None and amount != self.amount:
                detail = "its one transaction has another amount or direction; the entry's own is taken"
                findings.append(Finding("details_differ", detail, self._place))
            return (self._entry(self._place, self.amount, transactions[0]),)
        return self._one_each(transactions, findings)

    def _one_each(self, transactions: Sequence[Branch], findings: list[Finding]) -> Sequence[Entry]:
        result: list[Entry] = []
        total = 0
        for number, transaction in enumerate(transactions, start=1):
            place = Place(self._place.line, f"{self._place.field}/TxDtls[{number}]")
            amount = self._transaction_amount(transaction, place)
            if amount is None:
                break
            total += amount
            result.append(self._entry(place, amount, transaction))
        if len(result) == len(transactions) and total == self.amount:
            return result
        detail = f"the amounts of its {len(transactions)} transactions don't add up to it; it is taken as one"
        findings.append(Finding("details_apart", detail, self._place))
        return (self._entry(self._place, self.amount, {}),)

    def _transactions(self, findings: list[Finding]) -> list[Branch]:
        transactions: list[Branch] = []
        for details in self._branch["NtryDtls"]:
            if not details:
                continue
            its = [transaction or {} for transaction in details.get("TxDtls", ())]
            if batch := details.get("Btch"):
                self._take_batch(batch, len(its), findings)
            transactions += its
        return transactions

    def _take_batch(self, batch: Branch, transactions: int, findings: list[Finding]) -> None:
        if said := batch.get("NbOfTxs"):
            match = COUNT.fullmatch(said)
            if match is None:
                place = self._below("NtryDtls/Btch/NbOfTxs")
                raise StatementRefused(Reason.FIELD_MALFORMED, f"{said[:40]!r} is no number", place)
            number = int(match[1])
            if transactions and number != transactions:
                self._incomplete = True
                detail = f"a batch of {number} transactions, {transactions} of them there"
                findings.append(Finding("batch_incomplete", detail, self._place))
        for name in ("MsgId", "PmtInfId"):
            if text := batch.get(name):
                self._references.setdefault(_REFERENCES[name], text)

    def _is_reversal(self, text: str) -> bool:
        reversal = BOOLEANS.get(text)
        if reversal is None:
            raise StatementRefused(Reason.FIELD_MALFORMED, "neither true nor false", self._below("RvslInd"))
        return reversal

    def _read_status(self, said: str | Branch | None) -> Status | None:
        """Return the status, None for one of the sender's own. Versions up to 04 have it as a text."""
        if said is None:
            raise StatementRefused(Reason.FIELD_MISSING, "Sts is missing", self._below("Sts"))
        code = said if isinstance(said, str) else said.get("Cd", "")
        if not code and "Prtry" in said:
            return None
        status = _STATUSES.get(code)
        if status is None:
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{code[:20]!r} is no status", self._below("Sts"))
        return status

    def _day(self, name: str) -> date | None:
        choice = self._branch.get(name)
        if choice is None:
            return None
        text = (choice.get("Dt") or choice.get("DtTm") or "") if isinstance(choice, dict) else choice
        day = iso_day(text) if isinstance(text, str) else None
        if day is None:
            raise StatementRefused(Reason.DATE_INVALID, f"no such day: {text[:40]!r}", self._below(name))
        return day

    def _transaction_amount(self, transaction: Branch, place: Place) -> int | None:
        """Return a transaction's signed amount, None if it has none in the entry's currency.

        Version 02 has it among the details of amounts.
        """
        holder = transaction if "Amt" in transaction else _inner(transaction, "AmtDtls", "TxAmt")
        if holder is None or holder.get("@Ccy") != self.currency:
            return None
        if holder.get("Amt") == self._branch["Amt"]:
            amount = abs(self.amount)
        else:
            amount, _ = _amount(holder, place)
        credit = _is_credit(transaction, place) if "CdtDbtInd" in transaction else self._credit
        return amount if credit else -amount

    def _entry(self, place: Place, amount: int, transaction: Branch) -> Entry:
        references = self._references.copy()
        if refs := transaction.get("Refs"):
            for name, text in refs.items():
                if text and name in _REFERENCES:
                    references[_REFERENCES[name]] = text
        counterparty, account, agent = self._other_side(transaction, credit=amount >= 0)
        text = _remittance(transaction["RmtInf"], references) if transaction.get("RmtInf") else None
        return Entry(
            place=place,
            amount_minor=amount,
            currency=self.currency,
            value_date=self._value_date,
            booking_date=self._booking_date,
            reversal=self._reversal,
            status=self._status or "info",
            reference=best_reference(references),
            references=references,
            counterparty=counterparty,
            counterparty_account=account,
            counterparty_agent=agent,
            text=text or transaction.get("AddtlTxInf") or self._branch.get("AddtlNtryInf") or None,
            code=self._code or _code(transaction),
        )

    def _other_side(self, transaction: Branch, *, credit: bool) -> tuple[str | None, str | None, str | None]:
        """Return name, account and bank of who paid, or of who was paid; of a reversal, in the entry taken back."""
        role = "Dbtr" if credit != self._reversal else "Cdtr"
        name = account = agent = None
        if parties := transaction.get("RltdPties"):
            if party := parties.get(role):
                name = (party.get("Pty") or party).get("Nm")
            if holder := parties.get(f"{role}Acct"):
                account = _account(holder.get("Id"))
        institution = _inner(transaction, "RltdAgts", f"{role}Agt", "FinInstnId")
        if institution:
            agent = institution.get("BICFI") or institution.get("BIC")
        return name or None, account, agent or None

    def _below(self, field: str) -> Place:
        return Place(self._place.line, f"{self._place.field}/{field}")


def _amount(branch: Branch, place: Place) -> tuple[int, str]:
    text, currency = branch.get("Amt"), branch.get("@Ccy")
    if not isinstance(text, str):
        raise StatementRefused(Reason.FIELD_MISSING, "Amt is missing", Place(place.line, f"{place.field}/Amt"))
    if currency is None:
        at = Place(place.line, f"{place.field}/Amt")
        raise StatementRefused(Reason.FIELD_MISSING, "an amount without its currency", at)
    return minor_units(text, currency, place), currency


def _is_credit(branch: Branch, place: Place) -> bool:
    text = branch.get("CdtDbtInd")
    if text == "CRDT":
        return True
    if text == "DBIT":
        return False
    at = Place(place.line, f"{place.field}/CdtDbtInd")
    if text is None:
        raise StatementRefused(Reason.FIELD_MISSING, "CdtDbtInd is missing", at)
    raise StatementRefused(Reason.FIELD_MALFORMED, f"{text[:20]!r} is neither CRDT nor DBIT", at)


def _code(branch: Branch) -> str | None:
    codes = branch.get("BkTxCd")
    if not codes:
        return None
    if domain := codes.get("Domn"):
        family = domain.get("Fmly") or {}
        return "/".join(filter(None, (domain.get("Cd"), family.get("Cd"), family.get("SubFmlyCd"))))
    proprietary = codes.get("Prtry")
    return proprietary[0].get("Cd") if proprietary and isinstance(proprietary[0], dict) else None


def _account(identification: Any) -> str | None:
    if not isinstance(identification, dict):
        return None
    if iban := identification.get("IBAN"):
        return str(iban)
    other = identification.get("Othr")
    number = other[0].get("Id") if other and isinstance(other[0], dict) else None
    return number if isinstance(number, str) else None


def _inner(branch: Mapping[str, Any], *path: str) -> Branch | None:
    inner: Any = branch
    for name in path:
        inner = inner.get(name)
        if not inner or not isinstance(inner, dict):
            return None
    return inner  # type: ignore[no-any-return]


def _remittance(information: Branch, references: dict[str, str]) -> str | None:
    said = [text for text in information.get("Ustrd", ()) if text]
    for structured in information.get("Strd", ()):
        if structured:
            if reference := (structured.get("CdtrRefInf") or {}).get("Ref"):
                references.setdefault("creditor_reference", reference)
            said += [text for text in structured.get("AddtlRmtInf", ()) if text]
    return " ".join(" ".join(said).split()) or None
