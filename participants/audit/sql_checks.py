"""The checks of `fsck` that one SQL statement makes: each returns the first difference as text, or nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

from participants.ledger.accounts import BOUNDS

EVENT_NUMBERS = """
SELECT difference FROM (
    SELECT sequence, format('event %s follows event %s', sequence, before) AS difference
    FROM (
        SELECT e.sequence, lag(e.sequence, 1, greatest(f.sequence - 1, 0)) OVER (ORDER BY e.sequence) AS before
        FROM event e CROSS JOIN journal_floor f WHERE e.sequence >= f.sequence
    ) e
    WHERE sequence <> before + 1
    UNION ALL
    SELECT last, format('the head is at %s, the last event is %s', (SELECT sequence FROM ledger_head), last)
    FROM (
        SELECT greatest(0, (SELECT max(sequence) FROM event), (SELECT sequence - 1 FROM journal_floor)) AS last
    ) e
    WHERE last IS DISTINCT FROM (SELECT sequence FROM ledger_head)
) d ORDER BY sequence LIMIT 1
"""
ENTRIES_BALANCED = """
SELECT format('entry %s is out of balance by %s %s', p.event_sequence, sum(p.amount),
    coalesce(a.currency, '(unknown account)'))
FROM posting p LEFT JOIN account a ON a.id = p.account_id
GROUP BY p.event_sequence, a.currency HAVING sum(p.amount) <> 0 OR a.currency IS NULL
ORDER BY p.event_sequence LIMIT 1
"""
ENTRIES_HAVE_EVENTS = """
SELECT format('entry %s belongs to no event', p.event_sequence)
FROM posting p LEFT JOIN event e ON e.sequence = p.event_sequence WHERE e.sequence IS NULL
ORDER BY p.event_sequence LIMIT 1
"""
EVENT_KEYS = """
SELECT format('event %s is %s version %s, found as %s version %s (event %s)', e.sequence, e.subject, e.version,
    k.subject, k.version, k.sequence)
FROM event e FULL JOIN event_key k ON k.sequence = e.sequence
CROSS JOIN journal_floor f
WHERE (k.subject, k.version) IS DISTINCT FROM (e.subject, e.version)
    AND NOT (e.sequence IS NULL AND k.sequence < f.sequence) ORDER BY coalesce(e.sequence, k.sequence) LIMIT 1
"""
POSTING_CHAINS = """
SELECT format('account %s, posting %s (the %sth): %s + %s = %s after %s', account_id, version, number,
    previous_balance, amount, balance, prior)
FROM (
    SELECT p.*, coalesce(c.version, 0) + row_number() OVER w AS number,
        lag(p.balance, 1, coalesce(c.balance, 0)) OVER w AS prior, lag(event_sequence, 1, 0::bigint) OVER w AS earlier
    FROM posting p CROSS JOIN journal_floor f LEFT JOIN carried_balance c USING (account_id)
    WHERE p.event_sequence >= f.sequence
    WINDOW w AS (PARTITION BY account_id ORDER BY p.version)
) p
WHERE version <> number OR previous_balance <> prior OR balance <> previous_balance + amount
    OR event_sequence <= earlier
ORDER BY account_id, version LIMIT 1
"""
ACCOUNTS_OPENED = """
SELECT format('account %s/%s/%s was opened by event %s, which is %s', a.kind, a.code, a.currency, a.opened_by,
    coalesce(e.type, 'missing'))
FROM account a LEFT JOIN event e ON e.sequence = a.opened_by
WHERE e.type IS DISTINCT FROM 'accounts.opened' ORDER BY a.id LIMIT 1
"""
ACCOUNT_BALANCES = """
SELECT format('account %s/%s/%s: balance %s, version %s; its %s postings add up to %s', a.kind, a.code, a.currency,
    b.balance, b.version, coalesce(p.version, 0), coalesce(p.balance, 0))
FROM account a
LEFT JOIN account_balance b ON b.account_id = a.id
LEFT JOIN (
    SELECT account_id, sum(balance) AS balance, sum(version)::bigint AS version FROM (
        SELECT account_id, sum(amount) AS balance, count(*) AS version
        FROM posting WHERE event_sequence >= (SELECT sequence FROM journal_floor) GROUP BY 1
        UNION ALL SELECT account_id, balance, version FROM carried_balance
    ) parts GROUP BY 1
) p ON p.account_id = a.id
WHERE (b.balance, b.version) IS DISTINCT FROM (coalesce(p.balance, 0)::bigint, coalesce(p.version, 0))
ORDER BY a.id LIMIT 1
"""
ACCOUNT_BOUNDS = """
SELECT format('account %s/%s/%s: balance %s, bounds %s to %s; for its kind %s to %s', a.kind, a.code, a.currency,
    b.balance, b.lowest, b.highest, k.lowest, k.highest)
FROM account a JOIN account_balance b ON b.account_id = a.id
JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS k (kind, lowest, highest) ON k.kind = a.kind
WHERE b.balance NOT BETWEEN k.lowest AND k.highest OR (b.lowest, b.highest) <> (k.lowest, k.highest)
ORDER BY a.id LIMIT 1
"""
ZERO_SUM = """
SELECT format('%s: the balances sum to %s', a.currency, sum(b.balance))
FROM account a JOIN account_balance b ON b.account_id = a.id
GROUP BY a.currency HAVING sum(b.balance) <> 0 ORDER BY a.currency LIMIT 1
"""


class SqlCheck(NamedTuple):
    name: str
    proves: str
    examined: str
    query: str
    arguments: tuple[Any, ...] = ()


_EVENTS = "SELECT count(*) FROM event"
_POSTINGS = "SELECT count(*) FROM posting"
_ACCOUNTS = "SELECT count(*) FROM account"
_BOUNDS = (list(BOUNDS), [bounds[0] for bounds in BOUNDS.values()], [bounds[1] for bounds in BOUNDS.values()])

CHECKS = (
    SqlCheck("event_numbers", "events are numbered 1 to the head without a gap", _EVENTS, EVENT_NUMBERS),
    SqlCheck("event_keys", "each event is found by its subject and version, and nothing else is", _EVENTS, EVENT_KEYS),
    SqlCheck("entries_balanced", "each entry's debits equal its credits in each currency", _POSTINGS, ENTRIES_BALANCED),
    SqlCheck("entries_have_events", "each posting belongs to an event", _POSTINGS, ENTRIES_HAVE_EVENTS),
    SqlCheck("posting_chains", "each account's postings join without a gap", _POSTINGS, POSTING_CHAINS),
    SqlCheck("accounts_opened", "each account was opened by an event", _ACCOUNTS, ACCOUNTS_OPENED),
    SqlCheck("account_balances", "each balance is the sum of the account's postings", _ACCOUNTS, ACCOUNT_BALANCES),
    SqlCheck("account_bounds", "each balance is within the bounds of its kind", _ACCOUNTS, ACCOUNT_BOUNDS, _BOUNDS),
    SqlCheck("zero_sum", "all balances sum to zero in each currency", _ACCOUNTS, ZERO_SUM),
)
