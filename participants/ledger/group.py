"""A group of commands: decided together on the books, written in one transaction, answered when that is durable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from participants.ledger.books import Books
from participants.ledger.command import Command


@dataclass(slots=True)
class Submission:
    """A command and whoever waits for its answer. `items` is its share of a group."""

    command: Command[Any]
    answer: asyncio.Future[Any]
    items: int

    def succeed(self, answer: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Group:
    """Commands decided on the books one after the other, and the rows they give rise to."""

    def __init__(self, books: Books) -> None:
        books.begin(datetime.now(UTC))
        self.books = books
        self.head_before = books.head
        self.head_after = books.head
        self.rows = books.rows
        self.assumed_versions = books.assumed_versions
        self.submissions: list[Submission] = []
        self.answers: list[Any] = []
        self.items = 0

    def decide(self, submission: Submission) -> None:
        """Decide one more command on top of the others."""
        self.submissions.append(submission)
        self.items += submission.items
        # Groups are begun while another one is written, which may take long: what expires goes by when it is decided.
        self.books.now = datetime.now(UTC)
        self.answers.append(submission.command.decide(self.books))

    def close(self) -> None:
        """End the group: nothing decided after this changes what it writes."""
        self.books.advance_lanes()
        self.head_after = self.books.head
        self.rows.freeze()

    @property
    def writes_nothing(self) -> bool:
        """Tell whether there is nothing to write, as where everything was decided before."""
        rows = self.rows
        return self.head_after == self.head_before and not (rows.refusals or rows.ended_waits or rows.batches)

    def answer(self) -> None:
        """Give everybody their answer."""
        for submission, answer in zip(self.submissions, self.answers, strict=True):
            submission.succeed(answer)
