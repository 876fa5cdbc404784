"""The rulebook as data: loading, refusing what doesn't fit together, and its digest."""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gateway.coordinator
from compliance.crypto import canonical
from compliance.cycle.exposure import UNSTATED_MINOR
from compliance.cycle.limits import Cap, Limits
from gateway.coordinator.default_rule import NOBODY
from gateway.coordinator.rulebook import Rulebook, RulebookError, Slot, checked, load, stored
from netting.loss_allocation.waterfall import LayerKind, ShareRule

BUILT_IN = Path(gateway.coordinator.__path__[0]) / "rulebook.toml"


def test_the_built_in_rulebook_reads_back_as_json(tmp_path: Path) -> None:
    rulebook = load()
    path = tmp_path / "rulebook.json"
    path.write_bytes(canonical.encode(rulebook))
    assert load(path) == rulebook
    assert load(path).sha256 == rulebook.sha256 == canonical.digest(path.read_bytes())


def test_every_rule_counts_in_the_digest() -> None:
    rulebook = load()
    changed = [
        msgspec.structs.replace(rulebook, cut_deadline_s=rulebook.cut_deadline_s + 1),
        msgspec.structs.replace(rulebook, slots=()),
        msgspec.structs.replace(rulebook, approval=msgspec.structs.replace(rulebook.approval, mode="never")),
    ]
    assert len({rulebook.sha256, *(other.sha256 for other in changed)}) == 4
    assert set(msgspec.json.decode(canonical.encode(rulebook))) == set(Rulebook.__struct_fields__)


def test_a_rulebook_of_release_0_1_is_read_with_the_built_in_rule_on_liquidity() -> None:
    rules = msgspec.json.decode(canonical.encode(load()))
    assert stored(msgspec.json.encode(rules).decode()) == load()
    fifo = {**rules, "liquidity": {"mode": "fifo", "work": 1}}
    assert stored(msgspec.json.encode(fifo).decode()).liquidity.mode == "fifo"
    del rules["liquidity"]
    assert stored(msgspec.json.encode(rules).decode()) == load()


@pytest.mark.parametrize(("mode", "work"), [("greedy", 1), ("fifo", 0), ("fifo", 10**9 + 1)])
def test_what_is_no_rule_on_liquidity_is_refused(mode: str, work: int, tmp_path: Path) -> None:
    rules = msgspec.json.decode(canonical.encode(load()))
    path = tmp_path / "rulebook.json"
    path.write_bytes(msgspec.json.encode({**rules, "liquidity": {"mode": mode, "work": work}}))
    with pytest.raises(RulebookError, match="liquidity"):
        load(path)


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        (date(2026, 11, 20), True),
        (date(2026, 11, 21), False),  # a Saturday
        (date(2026, 4, 3), False),  # Good Friday
        (date(2026, 4, 6), False),  # Easter Monday
        (date(2026, 5, 1), False),
        (date(2026, 12, 25), False),
        (date(2027, 1, 1), False),
    ],
)
def test_the_calendar_is_targets(day: date, open_: bool) -> None:
    assert load().is_business_day(day) is open_
    assert msgspec.structs.replace(load(), calendar="every_day").is_business_day(day)


def test_the_next_business_day_passes_over_easter() -> None:
    assert load().business_day(date(2026, 4, 3)) == date(2026, 4, 7)
    assert load().business_day(date(2026, 4, 7)) == date(2026, 4, 7)


def slot(number: int, opens_at: str, cut_off_at: str, value_date: Any = "same_day") -> Slot:
    return Slot(number=number, opens_at=opens_at, cut_off_at=cut_off_at, value_date=value_date)


@pytest.mark.parametrize(
    "slots",
    [
        (slot(2, "06:00", "07:00"),),
        (slot(1, "06:00", "07:00"), slot(1, "07:00", "08:00")),
        (slot(1, "06:00", "06:00"),),
        (slot(1, "22:00", "02:00"),),  # its value date is over as it is cut off
        (slot(1, "06:00", "07:00"), slot(2, "22:00", "06:30", "next_business_day")),
        (slot(1, "22:00", "02:00", "next_business_day"), slot(2, "23:00", "23:30")),
        (slot(1, "06:00", "08:00"), slot(2, "07:00", "09:00")),
        (slot(1, "08:00", "09:00"), slot(2, "06:00", "07:00")),
    ],
)
def test_slots_that_dont_fit_together(slots: tuple[Slot, ...]) -> None:
    with pytest.raises(RulebookError, match="slots"):
        checked(msgspec.structs.replace(load(), slots=slots))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"CHF"', '"EUR"', "named twice"),
        ('currencies = ["CHF", ', "currencies = [", "CHF"),
        ('currencies = ["CHF", ', 'currencies = ["CHF", "HRK", ', "HRK isn't an active currency"),
        ('currencies = ["CHF", ', 'currencies = ["CHF", "ZZZ", "XAU", ', "ZZZ, XAU isn't an active currency"),
        ("cut_deadline_s = 120", "cut_deadline_s = 0", "cut_deadline_s"),
        ("cut_deadline_s = 120", "cut_deadline_s = 1.5", "cut_deadline_s"),
        ('version = "2026.1"', 'version = "2026.1"\nsurprise = 1', "surprise"),
        ('calendar = "XECB"', 'calendar = "XMARS"', "XMARS"),
        ('time_zone = "UTC"', 'time_zone = "Mars/Olympus"', "Mars/Olympus"),
        ('EUR = "TARGET"', 'EUR = "FEDWIRE"', "FEDWIRE isn't one of EUR"),
        ('EUR = "TARGET"', 'NOK = "NBO"', "NOK isn't cleared"),
        ('CHF = "100000000"', 'CHF = "1e8"', "floor_minor"),
        ('CHF = "100000000"', "CHF = 100000000", "floor_minor"),
        ('opens_at = "06:00"', 'opens_at = "24:00"', "opens_at"),
        ("[settlement]", "[settlement", "rulebook.toml"),
        ("capital_minor = {}", 'capital_minor = { XAU = "1" }', "XAU"),
        ("capital_minor = {}", 'capital_minor = { EUR = "-1" }', "capital_minor"),
        (
            'default_minor = { CHF = "100000000000", ',
            "default_minor = { ",
            "exposure.default_minor: nothing is set for CHF",
        ),
        ("default_minor = { ", 'default_minor = { XAU = "1", ', "an amount is set for XAU"),
        ("default_minor = { ", 'default_minor = { KWD = "-1", ', "default_minor"),
        ("[exposure]", "[extent]", "extent"),
        ('layers = ["defaulter_collateral"', 'layers = ["charity"', "layers"),
        ('layers = ["defaulter_collateral"', 'layers = ["scheme_capital"', "named twice"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    good = BUILT_IN.read_text()
    assert old in good
    path = tmp_path / "rulebook.toml"
    path.write_text(good.replace(old, new, 1))
    with pytest.raises(RulebookError, match=complaint) as refused:
        load(path)
    assert str(path) in str(refused.value)


def test_the_waterfall_is_data_for_the_netting_engine() -> None:
    bank = "BANKDEFF"
    limits = Limits(caps=(Cap(participant=bank, currency="EUR", cap_minor="9"),))
    rule = msgspec.structs.replace(
        load().default_waterfall,
        assessment_share="limit",
        capital_minor={"EUR": "7"},
        collateral_minor={bank: {"EUR": "5"}},
        contributions_minor={bank: {"EUR": "3", "USD": "4"}},
        assessment_caps_minor={bank: {"EUR": "2"}},
    )
    waterfall = rule.waterfall(limits)
    assert [layer.kind for layer in waterfall.layers] == list(LayerKind)
    assert {layer.share for layer in waterfall.layers} == {ShareRule.LIMIT}
    assert waterfall.collateral == {(bank, "EUR"): 5}
    assert waterfall.contributions == {(bank, "EUR"): 3, (bank, "USD"): 4}
    assert (waterfall.capital, waterfall.assessment_caps) == ({"EUR": 7}, {(bank, "EUR"): 2})
    assert waterfall.limits == {(bank, "EUR"): 9}


def test_a_rulebook_of_an_earlier_release_reads_under_its_own_digest() -> None:
    rules = msgspec.json.decode(canonical.encode(load()))
    del rules["default_waterfall"]
    assert stored(canonical.encode(rules).decode()).default_waterfall == NOBODY


def test_a_rulebook_of_an_earlier_release_lets_nobody_owe_without_end() -> None:
    rules = msgspec.json.decode(canonical.encode(load()))
    del rules["exposure"]
    defaults = stored(canonical.encode(rules).decode()).exposure.default_minor
    assert defaults == dict.fromkeys(load().currencies, str(UNSTATED_MINOR))


def test_a_rulebook_without_zone_systems_and_value_dates_means_what_it_meant(tmp_path: Path) -> None:
    rules = msgspec.json.decode(canonical.encode(load()))
    del rules["time_zone"], rules["settlement_systems"]
    for of_day in rules["slots"]:
        del of_day["value_date"]
    before = stored(canonical.encode(rules).decode())
    assert (before.time_zone, before.settlement_systems) == ("UTC", {})
    assert {of_day.value_date for of_day in before.slots} == {"same_day"}
    assert before.days.closed_of(before.currencies, date(2026, 11, 26)) == {}
    path = tmp_path / "rulebook.json"
    path.write_bytes(canonical.encode(rules))
    assert load(path) == before


def test_the_built_in_rulebook_knows_the_system_of_each_currency() -> None:
    assert load().settlement_systems.keys() == set(load().currencies)
    assert load().days.closed_of(load().currencies, date(2026, 11, 26)) == {"USD": "FEDWIRE: Thanksgiving Day"}


def test_the_days_of_any_system_need_one() -> None:
    with pytest.raises(RulebookError, match="any_open"):
        checked(msgspec.structs.replace(load(), calendar="any_open", settlement_systems={}))


def test_a_file_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(RulebookError, match=r"missing\.toml"):
        load(tmp_path / "missing.toml")
