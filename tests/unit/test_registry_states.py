"""The life of a member: every pair of state and step, legal or refused."""

import pytest

from gateway.coordinator.registry.lifecycle import (
    TRANSITIONS,
    RegistryReason,
    Status,
    Step,
    next_status,
    require_complete,
)
from gateway.federation.problems import Refusal

LEGAL = {
    ("applied", "approve"): "approved",
    ("applied", "leave"): "left",
    ("approved", "activate"): "active",
    ("approved", "leave"): "left",
    ("active", "suspend"): "suspended",
    ("suspended", "activate"): "active",
    ("suspended", "leave"): "left",
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("step", Step)
def test_every_state_and_step(status: Status, step: Step) -> None:
    expected = LEGAL.get((status.value, step.value))
    if expected is not None:
        assert next_status(status, step) == expected
        return
    with pytest.raises(Refusal) as refused:
        next_status(status, step)
    assert refused.value.reason == RegistryReason.STEP_ILLEGAL
    assert refused.value.status == 409


def test_nobody_comes_back_after_leaving() -> None:
    assert not [step for status, step in TRANSITIONS if status is Status.LEFT]


def test_every_state_can_be_reached_from_an_application() -> None:
    reached = {Status.APPLIED}
    while more := {TRANSITIONS[s, step] for s, step in TRANSITIONS if s in reached} - reached:
        reached |= more
    assert reached == set(Status)


@pytest.mark.parametrize(
    ("uses", "account", "missing"),
    [
        ({"auth", "sign"}, True, None),
        ({"auth", "sign", "token"}, True, None),
        ({"sign"}, True, "auth key"),
        ({"auth"}, True, "sign key"),
        ({"auth", "sign"}, False, "settlement account"),
    ],
)
def test_activation_needs_keys_and_an_account(uses: set[str], account: bool, missing: str | None) -> None:
    if missing is None:
        require_complete(key_uses=uses, settlement_account=account)
        return
    with pytest.raises(Refusal, match=missing) as refused:
        require_complete(key_uses=uses, settlement_account=account)
    assert refused.value.reason == RegistryReason.ACTIVATION_INCOMPLETE
