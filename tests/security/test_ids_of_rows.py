"""Nobody keeps a file's row from being paid, or writes into another's batch, by knowing what ids they will have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from importing import HEADER, command, paid, row, write
from running_banks import Town, order
from support import uuid7

from compliance.crypto.keys import SigningKey
from participants.access import clients
from participants.intake.files import PaymentRow, ReadOptions, inspect_file, read_rows
from participants.intake.status import FOLLOWING_MAX, file_id
from participants.payments.row_identity import following_id
from participants.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_id_that_is_taken_keeps_no_row_from_being_paid(town: Town, tmp_path: Path) -> None:
    """Whoever knows what a file will say can take its rows' ids, at his own cost. The row has one that follows."""
    alpha = town.alpha
    await alpha.open("f-squat", balance=10_000)
    path = write(tmp_path / "rows.csv", row("f-squat", "1.00", "wages"), row("f-squat", "2.00", "wages"))
    ids = [one.id for one in read_rows(inspect_file(path), ReadOptions()) if isinstance(one, PaymentRow)]
    for id_ in (ids[0], following_id(ids[0])):
        answer = await alpha.send("POST", "/payments", order(1, id=id_), subject="mallory")
        assert answer.status_code == 201
    for taken in (2, 0):
        code, output = await command(alpha, "import", str(path))
        assert (code, f"{taken} payments taken" in output) == (0, True), output
    code, output = await command(alpha, "file-status", str(path))
    assert (code, "1 refused" in output) == (0, False), output
    assert sorted(await paid(alpha, "f-squat")) == [100, 200]


async def test_an_id_of_ones_own_stays_what_it_is(town: Town, tmp_path: Path) -> None:
    """Another payment under an id that the file itself gives is refused: that is what the id is for."""
    await town.alpha.open("f-own-id", balance=10_000)
    header = f"id,{HEADER}"
    id_ = uuid7()
    for amount, code in (("1.00", 0), ("2.00", 3)):
        path = write(tmp_path / f"{amount}.csv", f"{id_},{row('f-own-id', amount, 'x')}", header=header)
        found, output = await command(town.alpha, "import", str(path))
        assert (found, "id_reused" in output) == (code, code == 3), output
    assert await paid(town.alpha, "f-own-id") == [100]


def named(id_: str, *orders: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "name": "pay day", "payments": list(orders)}


async def test_only_its_maker_adds_to_a_batch(town: Town) -> None:
    alpha, id_ = town.alpha, uuid7()
    mine, theirs = order(1), order(2)
    assert (await alpha.send("POST", "/payments/batch", named(id_, mine), subject="dora")).status_code == 200
    refused = await alpha.send("POST", "/payments/batch", named(id_, theirs), subject="mallory")
    assert (refused.status_code, refused.json()["code"]) == (409, "batch_of_another")
    assert (await alpha.send("GET", f"/payments/{theirs['id']}")).status_code == 404
    again = await alpha.send("POST", "/payments/batch", named(id_, mine, order(3)), subject="dora")
    assert [one.get("replayed", False) for one in again.json()["results"]] == [True, False]
    assert (await alpha.get(f"/batches/{id_}"))["outcomes"] == {"taken": 2}


async def test_two_who_begin_a_batch_at_once_do_not_share_it(town: Town) -> None:
    alpha = town.alpha
    for _ in range(10):
        id_ = uuid7()
        people = {"dora": order(1), "mallory": order(2)}
        await asyncio.gather(
            *(alpha.send("POST", "/payments/batch", named(id_, one), subject=person) for person, one in people.items())
        )
        maker = (await alpha.get(f"/batches/{id_}"))["made_by"]
        orders = (await alpha.get(f"/batches/{id_}/orders"))["items"]
        assert [one["id"] for one in orders] == [people[maker]["id"]]


@pytest.mark.parametrize("taken", [1, FOLLOWING_MAX])
async def test_a_files_batch_that_somebody_else_made(town: Town, tmp_path: Path, taken: int) -> None:
    """The file is imported all the same, in a batch of whoever imports it."""
    account = f"f-batch-{taken}"
    await town.alpha.open(account, balance=10_000)
    path = write(tmp_path / "batch.csv", row(account, "1.00", "x"))
    id_ = file_id(inspect_file(path), town.alpha.bic)
    for _ in range(taken):
        answer = await town.alpha.send("POST", "/payments/batch", named(id_, order(1)), subject="mallory")
        assert answer.status_code == 200
        id_ = following_id(id_)
    code, output = await command(town.alpha, "import", str(path))
    assert (code, "1 payments taken" in output) == (0, True), output
    assert await paid(town.alpha, account) == [100]
    if taken == 1:
        code, output = await command(town.alpha, "file-status", str(path))
        assert (code, "imported by mallory" in output, "batch.csv, imported by dora" in output) == (0, True, True)


async def test_who_may_not_order_payments_is_told_so(town: Town, tmp_path: Path) -> None:
    """By exit code 1: not one row was refused, and none was looked at. What became of a file, who reads may see."""
    alpha = town.alpha
    key = SigningKey.generate()
    key.save(tmp_path / "reader.pem")
    async with alpha.node.pool.acquire() as connection, connection.transaction():
        await clients.register(connection, "reader", key.verifying_key, [Role.READ], by="sam")
    path = write(tmp_path / "role.csv", row("a-1", "1.00", "x"))
    as_reader = (str(path), "--client", "reader", "--key", str(tmp_path / "reader.pem"))
    code, output = await command(alpha, "import", *as_reader, subject=None)
    assert (code, "role" in output) == (1, True), output
    code, output = await command(alpha, "file-status", *as_reader, subject=None)
    assert (code, "no row of it has reached" in output) == (3, True), output
