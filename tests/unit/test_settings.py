"""Settings from the environment: what is read, and how wrong ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.federation.membership.institution import staff_token
from gateway.federation.settings import EdgeLimits, NodeSettings, SettingsError

LEAST = {"CONCORDAT_BIC": "BANKDEFF", "CONCORDAT_DATA_DIR": "/var/lib/bank"}


def test_little_must_be_said() -> None:
    settings = NodeSettings.from_env(environ=LEAST)
    assert settings == NodeSettings(bic="BANKDEFF", url="http://127.0.0.1:8000", data_dir=Path("/var/lib/bank"))
    assert settings.keys_dir == Path("/var/lib/bank/keys")
    assert settings.trust_list_path == Path("/var/lib/bank/trust-list.json")


def test_limits_can_be_said() -> None:
    said = {"CONCORDAT_CONNECTIONS_MAX": "5", "CONCORDAT_CLIENT_REQUESTS_PER_S": "0"}
    settings = NodeSettings.from_env(environ={**LEAST, **said})
    assert settings.limits == EdgeLimits(connections_max=5, client_requests_per_s=0)
    with pytest.raises(SettingsError, match="CONCORDAT_HEAD_SECONDS: expected a whole number"):
        NodeSettings.from_env(environ={**LEAST, "CONCORDAT_HEAD_SECONDS": "1.5"})


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "day"])
def test_a_trust_list_has_a_greatest_age(value: str) -> None:
    name = "CONCORDAT_TRUST_LIST_AGE_SECONDS_MAX"
    assert NodeSettings.from_env(environ={**LEAST, name: "600"}).trust_list_age_seconds_max == 600
    with pytest.raises(SettingsError, match=f"{name}: expected a whole number of at least 1"):
        NodeSettings.from_env(environ={**LEAST, name: value})


def test_everything_can_be_said() -> None:
    settings = NodeSettings.from_env(
        "BANK_",
        {
            "BANK_BIC": "BANKDEFFXXX",
            "BANK_URL": "https://bank.example/node/",
            "BANK_HOST": "0.0.0.0",
            "BANK_PORT": "8443",
            "BANK_PRIVATE_HOST": "10.0.0.1",
            "BANK_PRIVATE_PORT": "9443",
            "BANK_DATA_DIR": "/data",
            "BANK_DATABASE_URL": "postgresql://db/bank",
            "DATABASE_URL": "postgresql://db/other",
            "BANK_ANCHOR": "/etc/anchor.json",
            "BANK_COORDINATOR_URL": "https://house.example",
            "BANK_LOG_LEVEL": "WARNING",
        },
    )
    assert settings == NodeSettings(
        bic="BANKDEFF",
        url="https://bank.example/node",
        host="0.0.0.0",
        port=8443,
        private_host="10.0.0.1",
        private_port=9443,
        data_dir=Path("/data"),
        database_url="postgresql://db/bank",
        anchor=Path("/etc/anchor.json"),
        coordinator_url="https://house.example",
        log_level="warning",
    )


def test_the_usual_name_of_a_database_is_understood() -> None:
    settings = NodeSettings.from_env(environ={**LEAST, "DATABASE_URL": "postgresql://db/x"})
    assert settings.database_url == "postgresql://db/x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIC", ""),
        ("BIC", "BANKDEF"),
        ("BIC", "BANKDEFFX"),
        ("DATA_DIR", ""),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PRIVATE_PORT", "0"),
        ("PRIVATE_PORT", "8000"),
        ("PORT", "٨٠"),
        ("URL", "bank.example"),
        ("URL", "https://bank.example/?a=b"),
        ("COORDINATOR_URL", "ftp://house.example"),
        ("LOG_LEVEL", "loud"),
        ("STATEMENT_SECONDS", "0"),
        ("STATEMENT_SECONDS", "2.5"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^CONCORDAT_{name}: expected"):
        NodeSettings.from_env(environ={**LEAST, f"CONCORDAT_{name}": value})


def test_a_token_is_made_with_the_institution_s_own_key_or_not_at_all(tmp_path: Path) -> None:
    """A key that is made for it nobody would know, and a mistyped directory would never be noticed."""
    settings = NodeSettings.from_env(
        environ={"CONCORDAT_BIC": "ALDRXXA0", "CONCORDAT_DATA_DIR": str(tmp_path / "typo")}
    )
    with pytest.raises(SettingsError, match="no token key"):
        staff_token(settings, "dora")
    with pytest.raises(SettingsError, match="may be nobody's name: mixed_scripts"):
        staff_token(settings, "d\u043era")
    assert list(tmp_path.iterdir()) == []
