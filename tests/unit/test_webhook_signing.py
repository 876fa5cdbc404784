"""Messages are signed as the specification of Standard Webhooks says, under secrets that are nowhere stored."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from participants.webhooks import signing
from participants.webhooks.signing import WebhookSecrets

# The example of the specification: secret, id, time, body and what comes of it.
SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
MESSAGE, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_example_of_the_specification() -> None:
    assert signing.signature(SECRET, MESSAGE, TIMESTAMP, BODY) == SIGNATURE
    assert signing.shown(SECRET) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    both = signing.headers([b"x" * 32, SECRET], MESSAGE, TIMESTAMP, BODY)
    assert both["webhook-signature"].split(" ")[1] == SIGNATURE
    assert (both["webhook-id"], both["webhook-timestamp"]) == (MESSAGE, "1614265330")


def test_each_webhook_and_each_change_has_a_secret_of_its_own(tmp_path: Path) -> None:
    secrets = WebhookSecrets(tmp_path / "keys")
    with pytest.raises(FileNotFoundError):
        secrets.secret("a", 1)
    secrets.make_key()
    key = (tmp_path / "keys" / "webhooks.key").read_bytes()
    secrets.make_key()
    assert (tmp_path / "keys" / "webhooks.key").read_bytes() == key
    made = {secrets.secret(webhook, generation) for webhook in ("a", "b") for generation in (1, 2)}
    assert len(made) == 4
    assert {len(secret) for secret in made} == {32}
    assert WebhookSecrets(tmp_path / "keys").secret("a", 1) == secrets.secret("a", 1)
    (tmp_path / "keys" / "webhooks.key").write_bytes(key[:31])
    with pytest.raises(ValueError, match="31 bytes"):
        secrets.secret("a", 1)
