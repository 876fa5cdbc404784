"""Banks without ledgers: real keys, real signatures, real HTTP; what they owe each other is made up.

They do at the coordinator what a bank's node does in a cycle. Their documents can be signed beforehand, because the
coordinator can't tell, and so that many of them fit beside it on one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey, VerifyingKey
from compliance.cycle.positions import Position, digests, root_over
from compliance.statements import (
    Attestation,
    CycleCut,
    LaneCut,
    ScreeningList,
    ScreeningStatement,
    SettlementInstruction,
)
from gateway.coordinator.clock import now, timestamp
from gateway.federation.identity.tokens import TOKEN_LIFETIME_MAX_S, issue_access_token
from gateway.federation.membership.documents import Application, OfferedKey, SettlementAccount
from gateway.federation.messages.attestation import AttestationVerdict, SenderCuts
from gateway.federation.messages.events import Event, Events

T = TypeVar("T")

BUSY_SECONDS, BUSY_TRIALS_MAX = 0.2, 300


def bic(number: int) -> str:
    """Return the BIC of a bank by its number."""
    letters = "".join(chr(ord("A") + number // 26**place % 26) for place in (2, 1, 0))
    return f"S{letters}DEFF"


class Connection:
    """One kept-alive HTTP/1.1 connection that does next to nothing a request. `token` issues its user's tokens."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self.url = url
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self.token, self._head, self._renew_at = token, "", 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return status and body of the answer."""
        if time.monotonic() >= self._renew_at:
            self._head = f" HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self.token()}\r\n"
            self._renew_at = time.monotonic() + TOKEN_LIFETIME_MAX_S / 2
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        request = f"{method} {path}{self._head}{about}\r\n".encode() + body
        if self._streams is not None:
            # A node closes what was idle for seconds, perhaps in this moment: then it has read nothing of the request.
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                return await self._exchange(*self._streams, request)
            self.close()
        self._streams = await asyncio.open_connection(self._host, self._port, limit=2**20)
        return await self._exchange(*self._streams, request)

    @staticmethod
    async def _exchange(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 : head.find(b"\r\n", at)]) if at >= 0 else 0
        return int(head[9:12]), await reader.readexactly(length)

    async def ask(self, kind: type[T], method: str, path: str, body: bytes = b"") -> T:
        """Send a request and return the decoded answer; raises AssertionError unless it succeeds.

        One that is answered 503 is sent again for a while, as a bank's node does it.
        """
        for _ in range(BUSY_TRIALS_MAX):
            status, answer = await self.send(method, path, body)
            if status != 503:
                break
            await asyncio.sleep(BUSY_SECONDS)
        assert status < 300, f"{method} {path}: {status} {answer[:500]!r}"
        return msgspec.json.decode(answer, type=kind)

    async def event(self, type_: str, cycle: str, after: int) -> Event:
        """Follow the feed from a cursor to an event of a cycle."""
        while True:
            page = await self.ask(Events, "GET", f"/events?after={after}&wait_s=25")
            for event in page.events:
                if event.type == type_ and event.cycle == cycle:
                    return event
            after = page.next

    async def newest(self, after: int = 0) -> int:
        """Return the cursor behind the newest event, from a cursor on."""
        while (page := await self.ask(Events, "GET", f"/events?after={after}&limit=1000")).events:
            after = page.next
        return after

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """What one bank will send in a cycle, signed."""

    cut: bytes
    attestation: bytes


@dataclass(kw_only=True)
class Expected:
    """What a bank expects of an instruction."""

    counterparties: int = 0
    receives: int = 0
    pays: int = 0


@dataclass(kw_only=True)
class Bank:
    """One bank."""

    bic: str
    sign: SigningKey
    auth: SigningKey
    connection: Connection

    def application(self, agent: str) -> Application:
        return Application(
            bic=self.bic,
            name=f"Bank {self.bic}",
            url="http://127.0.0.1:9",
            keys=(OfferedKey(use="auth", x=self.auth.x), OfferedKey(use="sign", x=self.sign.x)),
            settlement=SettlementAccount(agent=agent, account=f"ACC-{self.bic}"),
        )


@dataclass(kw_only=True)
class Banks:
    """Banks of which each pays each other in every currency, so many payments a lane and cycle.

    Every cycle takes in all lanes to the same number, `settled` once it is final.
    """

    banks: Sequence[Bank]
    currencies: Sequence[str]
    coordinator: VerifyingKey
    settled: int = 0
    expected: dict[tuple[str, str], Expected] = field(default_factory=dict)
    """By bank and currency."""

    @classmethod
    def of(
        cls, count: int, *, currencies: Iterable[str], url: str, coordinator: str, token_key: SigningKey,
        coordinator_key: VerifyingKey,
    ) -> Banks:  # fmt: skip
        """Make banks with new keys, and with tokens of the coordinator at `url`."""

        def bank(name: str) -> Bank:
            sign, auth = SigningKey.generate(), SigningKey.generate()

            def token() -> str:
                return issue_access_token(
                    key=token_key, issuer=url, subject=name, audience=coordinator, client_id=name, role="participant",
                    signed_in_by=auth.kid,
                )  # fmt: skip

            return Bank(bic=name, sign=sign, auth=auth, connection=Connection(url, token))

        return cls(
            banks=[bank(bic(number)) for number in range(count)],
            currencies=sorted(currencies),
            coordinator=coordinator_key,
        )

    @property
    def names(self) -> list[str]:
        return [bank.bic for bank in self.banks]

    def prepare(self, cycle: str, *, payments: int, scale: int = 1) -> list[Bodies]:
        """Sign everything for a cycle: `payments` a lane, amounts times `scale`."""
        first, last = self.settled + 1, self.settled + payments

        def position(currency: str, low: str, high: str) -> Position:
            return _position(cycle, currency, low, high, first, last, scale)

        positions = [
            position(currency, low, high)
            for currency in self.currencies
            for number, low in enumerate(self.names)
            for high in self.names[number + 1 :]
        ]
        return self.sign(cycle, positions, screened=payments * 2 * (len(self.banks) - 1) * len(self.currencies))

    def sign(self, cycle: str, positions: Iterable[Position], *, screened: int) -> list[Bodies]:
        """Sign what positions, in the order of leaves, come to for each bank that has a part in them."""
        self.expected = defaultdict(Expected)
        rows: defaultdict[str, list[bytes]] = defaultdict(list)
        leaves: defaultdict[str, list[bytes]] = defaultdict(list)
        received: defaultdict[str, list[LaneCut]] = defaultdict(list)
        for position, digest in digested(cycle, positions):
            row = msgspec.json.encode(position)
            forth, back = int(position.forth_minor), int(position.back_minor)
            for bank, other, receives, pays, last in (
                (position.low, position.high, back, forth, position.back_last),
                (position.high, position.low, forth, back, position.forth_last),
            ):
                rows[bank].append(row)
                leaves[bank].append(digest)
                received[bank].append(LaneCut(sender=other, currency=position.currency, last_sequence=last))
                expected = self.expected[bank, position.currency]
                expected.counterparties += 1
                expected.receives += receives
                expected.pays += pays
        return [
            Bodies(
                cut=self._cut(cycle, bank, received[bank.bic]),
                attestation=self._attestation(cycle, bank, rows[bank.bic], leaves[bank.bic], screened),
            )
            for bank in self.banks
        ]

    async def clear(self, cycle: str, bodies: Sequence[Bodies], *, after: int) -> None:
        """Let all banks do their part of a cycle, from the feed's cursor `after` to their verified instructions."""
        await asyncio.gather(
            *(self._clear(bank, cycle, body, after) for bank, body in zip(self.banks, bodies, strict=True))
        )

    def close(self) -> None:
        for bank in self.banks:
            bank.connection.close()

    # --- one bank's part

    async def _clear(self, bank: Bank, cycle: str, bodies: Bodies, after: int) -> None:
        http = bank.connection
        cut_off = await http.event("cycle.cut_off", cycle, after)
        await http.ask(Any, "PUT", f"/cycles/{cycle}/cuts", bodies.cut)  # type: ignore[arg-type]
        attesting = await http.event("cycle.attesting", cycle, cut_off.id)
        cuts = await http.ask(SenderCuts, "GET", f"/cycles/{cycle}/cuts")
        lanes = sum(expected.counterparties for (name, _), expected in self.expected.items() if name == bank.bic)
        assert (cuts.complete, len(cuts.lanes)) == (True, lanes)
        answer = await http.ask(AttestationVerdict, "POST", f"/cycles/{cycle}/attestations", bodies.attestation)
        assert (answer.breaks, answer.refused, answer.stored + answer.agreed) == ((), (), lanes)
        await http.event("cycle.instructed", cycle, attesting.id)
        instructions = await http.ask(list[Envelope], "GET", f"/cycles/{cycle}/instructions")
        self._verify(bank, cycle, instructions)

    def _verify(self, bank: Bank, cycle: str, envelopes: Sequence[Envelope]) -> None:
        keys = {self.coordinator.kid: self.coordinator}
        instructions = [dsse.verify(envelope, SettlementInstruction, keys) for envelope in envelopes]
        assert [(i.cycle, i.participant, i.currency) for i in instructions] == [
            (cycle, bank.bic, currency) for currency in self.currencies
        ]
        for instruction in instructions:
            expected = self.expected[bank.bic, instruction.currency]
            receives = sum(int(line.receives_minor) for line in instruction.lines)
            pays = sum(int(line.pays_minor) for line in instruction.lines)
            assert (len(instruction.lines), receives, pays) == (
                expected.counterparties, expected.receives, expected.pays,
            )  # fmt: skip
            assert int(instruction.net_minor) == receives - pays

    # --- documents

    def _cut(self, cycle: str, bank: Bank, lanes: Iterable[LaneCut]) -> bytes:
        inwards = tuple(sorted(lanes, key=lambda lane: (lane.sender, lane.currency)))
        return msgspec.json.encode(dsse.sign(CycleCut(cycle=cycle, receiver=bank.bic, lanes=inwards), bank.sign))

    def _attestation(
        self, cycle: str, bank: Bank, rows: Sequence[bytes], leaves: Sequence[bytes], screened: int
    ) -> bytes:
        """Return the body of a bank's one attestation of a cycle."""
        screening = _screening(cycle, bank.bic, screened)
        attestation = Attestation(
            cycle=cycle,
            participant=bank.bic,
            statements=len(leaves),
            root=root_over(leaves),
            screening=canonical.digest(canonical.encode(screening)),
            complete=True,
        )
        return msgspec.json.encode(
            {
                "attestation": dsse.sign(attestation, bank.sign),
                "positions": msgspec.Raw(b"[" + b",".join(rows) + b"]"),
                "screening": screening,
            }
        )


def digested(cycle: str, positions: Iterable[Position]) -> Iterator[tuple[Position, bytes]]:
    """Yield each position with the digest of its statement."""
    rest = iter(positions)
    while some := list(islice(rest, 1_000)):
        yield from zip(some, digests(cycle, some), strict=True)


def _position(cycle: str, currency: str, low: str, high: str, first: int, last: int, scale: int) -> Position:
    def flow(sender: str, receiver: str) -> tuple[int, int, int, str, str]:
        seed = canonical.digest(f"{cycle} {sender} {receiver} {currency}".encode())
        return first, last, last - first + 1, str((10**6 + int(seed[:8], 16)) * scale), seed

    return Position(currency, low, high, 1, *flow(low, high), *flow(high, low))


def _screening(cycle: str, participant: str, screened: int) -> ScreeningStatement:
    fresh = ScreeningList(name="OFAC SDN", sha256="6" * 64, entries=17_000, imported_at=timestamp(now()))
    return ScreeningStatement(
        cycle=cycle, participant=participant, lists=(fresh,), matcher="exact-1", screened=screened,
        hits=0, released=0, rejected=0, pending=0,
    )  # fmt: skip
