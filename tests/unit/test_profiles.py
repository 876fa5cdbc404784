"""A profile says where and as whom to every command that asks somebody."""

from __future__ import annotations

import pytest

from gateway.cli import BY_PROFILE, load
from gateway.federation.commands.profiles import Profile

PROFILE = Profile(url="http://bank.example", bic="ALFADEFF", client="mia", key="mia.pem")


@pytest.mark.parametrize("group", ["participant", "decide"])
def test_every_command_that_asks_takes_it(group: str) -> None:
    assert group in BY_PROFILE
    kept = PROFILE.defaults()[group]
    asking = {}
    for name, command in load(group).commands.items():
        options = {option.name for option in command.params}
        if {"client", "key"} <= options:
            asking[name] = options
    assert asking.keys() == kept.keys()
    for name, options in asking.items():
        assert kept[name].keys() <= options, name


def test_no_command_asks_by_options_of_its_own() -> None:
    """Whoever has an option for where to ask has those for who asks as well."""
    for name, command in load("participant").commands.items():
        options = {option.name for option in command.params}
        if options & {"url", "node", "bank", "subject"} and name != "token":
            assert options >= {"url", "bank", "client", "key", "data_dir", "subject"}, name
