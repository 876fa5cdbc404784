"""The documentation is true: links lead somewhere, and pages that list what the program has list just that."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from compliance.cycle import states
from compliance.cycle.contests import CONTEST_EVENT
from gateway.coordinator.registry import lifecycle
from gateway.coordinator.rulebook import Rulebook, Slot, load
from gateway.federation.messages.base import WORDS
from gateway.federation.messages.events import EventType
from gateway.federation.problems import ServiceReason
from gateway.federation.settings import EdgeLimits, NodeSettings, Outgoing, SettingsError
from participants.feed.messages import EventType as LedgerEventType
from participants.intake.files import CSV_FORMATS, JSON_LINES
from participants.ledger import payment
from tests.contract.services import documents
from tests.reference import pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SOURCES = sorted(
    p for package in ("compliance", "gateway", "netting", "participants", "tui") for p in (ROOT / package).rglob("*.py")
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@cache
def source() -> str:
    return "\n".join(path.read_text("utf-8") for path in SOURCES)


@cache
def made() -> dict[Path, str]:
    return pages.pages(documents())


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", path.read_text("utf-8"))):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path}: {target}"
        if anchor:
            assert anchor in anchors(linked.read_text("utf-8")), f"{path}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_named_in_the_text_exist(path: Path) -> None:
    named = re.findall(
        r"`((?:docs|tests|gateway|participants|compliance|netting|tui)/[\w./-]+)`", path.read_text("utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_pages_named_in_the_program_exist() -> None:
    named = set(re.findall(r"docs/[\w./-]+\.md", source()))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["commands", "http-api", "reasons", "payment-states", "cycle-states"])
def test_a_generated_page_is_what_the_program_says(name: str) -> None:
    path = pages.REFERENCE / f"{name}.md"
    assert path.read_text("utf-8") == made()[path], "run `make reference`"


def test_the_page_of_commands_has_those_of_groups_within_groups() -> None:
    listed = re.findall(r"^## (concordat .*)$", page("reference/commands.md"), re.MULTILINE)
    assert {f"concordat participant client {name}" for name in ("add", "list", "revoke")} <= set(listed)
    assert "concordat participant client" not in listed


def test_every_enumeration_of_reasons_is_in_the_page() -> None:
    listed = {enum.__name__ for enums in pages.REASONS.values() for enum in enums}
    defined = set(re.findall(r"^class (\w*(?:Reason|Refusal)\w*)\((?:StrEnum|RefusalReason)\)", source(), re.MULTILINE))
    assert defined - {"RefusalReason", "ServiceReason"} <= listed


def test_every_reason_written_out_in_the_program_is_in_the_page() -> None:
    said = set(re.findall(r'Refusal\(\s*"([a-z_]+)"', source()))
    assert said - set(ServiceReason) == set()


def test_the_events_page_has_every_type() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", page("reference/events.md"), re.MULTILINE)
    assert set(rows) == set(get_args(EventType)[1].extra[WORDS])
    # What the coordinator appends, where the type is written out.
    assert set(re.findall(r'append\(\s*\w+,\s*"([a-z_]+\.[a-z_]+)"', source())) <= set(rows)


def test_the_page_on_a_banks_events_has_every_type() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", page("reference/ledger-events.md"), re.MULTILINE)
    assert rows == [str(type_) for type_ in LedgerEventType]


def test_the_settings_page_has_every_setting() -> None:
    rows = dict(re.findall(r"^\| `CONCORDAT_(\w+)` \| (.*?) \|", page("reference/settings.md"), re.MULTILINE))
    settings = [
        field for field in (*fields(NodeSettings), *fields(EdgeLimits), *fields(Outgoing)) if field.name != "limits"
    ]
    read = {field.name.upper() for field in settings}
    assert read <= rows.keys()
    named = set(re.findall(r"CONCORDAT_([A-Z_]+[A-Z])", source())) - {"SIM_SEED"}
    of_tests = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r'environ\.get\("CONCORDAT_(\w+)"', path.read_text("utf-8"))
    }
    assert named | read | of_tests == rows.keys()
    for field in settings:
        if isinstance(field.default, (str, int)) and not isinstance(field.default, bool):
            assert rows[field.name.upper()] == f"`{field.default}`"


def test_the_settings_page_says_what_is_required() -> None:
    given: dict[str, str] = {}
    for name, value in (("CONCORDAT_BIC", "ALDRXXA0"), ("CONCORDAT_DATA_DIR", "data")):
        assert f"| `{name}` | required |" in page("reference/settings.md")
        with pytest.raises(SettingsError, match=name):
            NodeSettings.from_env(environ=given)
        given[name] = value
    assert NodeSettings.from_env(environ=given).url == "http://127.0.0.1:8000"


def test_the_rulebook_page_has_every_field() -> None:
    def names(struct: Any, prefix: str = "") -> set[str]:
        found = set()
        for field in msgspec.structs.fields(struct):
            value = getattr(load(), field.name, None) if struct is Rulebook else None
            nested = isinstance(value, msgspec.Struct)
            found |= names(type(value), f"{field.name}.") if nested else {prefix + field.name}
        return found

    expected = names(Rulebook) | names(Slot, "slots.")
    rows = re.findall(r"^\| (`.*?) \|", page("reference/rulebook.md"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == expected


def test_the_events_page_has_every_event() -> None:
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", page("reference/events.md"), re.MULTILINE))
    coordinator = "\n".join(p.read_text("utf-8") for p in SOURCES if "coordinator" in p.parts)
    appended = set(
        re.findall(
            r'"((?:participant|trust_list|cap|prefunding|bilateral_limit|proposal|rulebook|operators?)\.[a-z_]+)"',
            coordinator,
        )
    )
    appended -= {name for name in appended if name.endswith((".toml", ".json"))}
    cycle = {f"cycle.{state}" for state in states.TRANSITIONS.values()}
    beside = {"cycle.opened", "cycle.break", "cycle.equivocation", CONTEST_EVENT, states.STUCK_EVENT}
    assert listed == appended | cycle | beside


def test_the_page_on_payment_files_has_every_format() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", page("reference/payment-files.md"), re.MULTILINE))
    assert rows.keys() == {layout.name for layout in (*CSV_FORMATS, JSON_LINES)}
    for layout in CSV_FORMATS:
        assert set(re.findall(r"`(\w+)`", rows[layout.name])) == set(layout.columns.values())


def edges(text: str) -> set[tuple[str, str]]:
    """Return the arrows of a state diagram, without those from its beginning and to its end."""
    found = re.findall(r"^\s*(\w+) --> (\w+)", text, re.MULTILINE)
    return {(was, then) for was, then in found}


def test_the_picture_of_a_cycle_has_every_transition() -> None:
    """Abandoning by operators is told in words instead, for it is possible from almost everywhere."""
    table = {(was.value, then.value) for (was, _), then in states.TRANSITIONS.items()}
    drawn = edges(page("concepts/cycle-life-cycle.md"))
    assert drawn <= table
    assert {then for _, then in table - drawn} == {"abandoned"}


def test_the_picture_of_a_payment_has_every_transition() -> None:
    """In the picture the two sides have states of their own: heldS and heldR are both `held`."""

    def plain(state: str) -> str:
        return state.removesuffix("S").removesuffix("R")

    table = {(was.value, then.value) for (was, _), then in payment.TRANSITIONS.items() if was not in (None, then)}
    assert {(plain(was), plain(then)) for was, then in edges(page("concepts/payment-life-cycle.md"))} == table


def test_the_order_of_reasons_in_the_payments_page_is_the_enumerations() -> None:
    from participants.payments.incoming import DeclineReason
    from participants.payments.orders import OrderReason

    rows = re.findall(r"^\| (`[a-z_]+`|) ?\| (`[a-z_]+`|) ?\|$", page("concepts/payment-life-cycle.md"), re.MULTILINE)

    def column(number: int) -> list[str]:
        return [row[number].strip("`") for row in rows if row[number]]

    def values(enum: type[StrEnum]) -> list[str]:
        return [member.value for member in enum]

    assert column(0) == values(OrderReason)
    assert column(1) == values(DeclineReason)


def test_every_state_of_a_member_is_in_the_generated_page() -> None:
    text = page("reference/cycle-states.md")
    assert [status for status in lifecycle.Status if f"`{status.value}`" not in text] == []


def test_no_page_is_an_island() -> None:
    linked = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in PAGES
        for target in _LINK.findall(_FENCE.sub("", path.read_text("utf-8")))
        if not re.match(r"https?:|#", target)
    }
    assert [path for path in PAGES if path not in linked and path.name != "README.md"] == []
