"""Who may do what, and why: every operation of all three APIs, each yes with its reason. Whoever isn't named may not.

What whoever isn't named is told stands below, in `REFUSED`. A `participant` is an active one, here another bank than
that whose node is asked; `suspended` and `approved` are participants too. Within a yes an operation may still look at
whom it concerns (`OWN`): a bank sees its own.
"""

from __future__ import annotations

ANYBODY = "anybody"
Row = dict[str, str]

_HEALTH = {ANYBODY: "a load balancer asks it, and learns yes or no"}
_HOUSE = {
    "operator": "runs the clearing house",
    "auditor": "checks it, and changes nothing",
}
_SHARED = {**_HOUSE, "participant": "takes part in it"}
_SETTLES = {"suspended": "settles what it owes by it, and sees no more"}
_SETTLING = {**_SHARED, **_SETTLES}
_LISTED = {**_SHARED, "suspended": "the trust list tells everybody", "approved": "the trust list tells everybody"}
_FEED = {
    **_SHARED,
    "suspended": "hears what it settles by, and when it is active again",
    "approved": "hears when it is active",
}
_OPERATOR = {"operator": "decides it for the clearing house"}
_TWO_OPERATORS = {"operator": "one of the two who decide it"}
_OWN_SUBMISSION = {"participant": "states its own, signed by itself"}
_OWN_INSTRUCTIONS = {"participant": "its own, to post them", **_SETTLES}
_STAFF = {"staff": "the institution's own people, by its own issuer"}
_READ = {"read": "sees everything that is the bank's own, and changes nothing"}
_PAYER = {"orders": "pays, cancels, returns, recalls and contests for the bank's customers"}
_PAYMENTS = {
    **_READ,
    "orders": "sees what became of what it ordered",
    "screening": "sees the payment that it decides on",
}
_BATCHES = {**_READ, "orders": "sees what became of what it ordered"}
_CYCLES = {**_READ, "orders": "sees how far the lanes to other banks are"}
_BOOKKEEPER = {"accounts": "keeps the bank's accounts, and says how much others may owe"}
_BOOKS = {**_READ, "accounts": "sees what it keeps"}
_HEARS = {
    **_READ,
    "events": "hears all that happens: the bank's core system",
    "orders": "hears of payments, and when they are settled",
    "screening": "hears of payments",
    "accounts": "hears of accounts",
}
_SENDS = {"events": "says where what it hears is sent"}
_COMPARES = {"participant": "compares the payments between it and this bank"}
_PEER = {"participant": "the other bank of a payment"}

COORDINATOR: dict[str, Row] = {
    "getKeys": {ANYBODY: "public keys, to verify tokens by"},
    "getMetadata": {ANYBODY: "where tokens are asked for; nobody has one before"},
    "requestToken": {ANYBODY: "proves who it is by the request itself"},
    "getTrustList": {ANYBODY: "signed, and nobody is a member before it is read"},
    "getDatedTrustList": {ANYBODY: "the same in its present format"},
    "confirmTrustList": {ANYBODY: "says which trust list is the newest; who reads a list has to know"},
    "applyAsParticipant": {ANYBODY: "nobody is a member before he applied; invited, and signed by the keys it offers"},
    "isLive": _HEALTH,
    "isReady": _HEALTH,
    "isStarted": _HEALTH,
    "listCycles": _SHARED,
    "getCurrentCycle": _SHARED,
    "getCycle": _SHARED,
    "listBreaks": _SHARED,
    "getFinality": _SETTLING,
    "listCycleInstructions": _SETTLING,
    "getPositions": _SETTLING,
    "getProof": _SETTLING,
    "getAgreedPosition": _SETTLING,
    "listEvents": _FEED,
    "listParticipants": _LISTED,
    "getParticipant": _LISTED,
    "getResult": _HOUSE,
    "getCertificates": _HOUSE,
    "getChecks": _HOUSE,
    "previewDefault": _HOUSE,
    "listDeliveries": _HOUSE,
    "exportCycle": _HOUSE,
    "getProgress": _HOUSE,
    "listProposals": _HOUSE,
    "listPendingProposals": _HOUSE,
    "getProposal": _HOUSE,
    "getRulebook": _HOUSE,
    "getCalendar": {**_SHARED, "suspended": "plans by it what it settles", "approved": "plans by it for when it is in"},
    "getOperators": {**_HOUSE, "agent": "moves money by what they signed, and verifies that by their keys"},
    "openCycle": _OPERATOR,
    "cutOffCycle": _OPERATOR,
    "retryCycle": _OPERATOR,
    "invite": {"operator": "lets a bank apply, and nothing more"},
    "propose": _TWO_OPERATORS,
    "proposeAct": _TWO_OPERATORS,
    "decide": _TWO_OPERATORS,
    "withdrawProposal": {"operator": "takes its own back"},
    "setBilateralLimit": {"participant": "grants what it is willing to be owed"},
    "getExposureLimits": {"participant": "what it granted, and the default where it granted nothing"},
    "changeKey": {
        "participant": "changes its own key, by its old one",
        "approved": "changes its own key, by its old one",
        "agent": "changes its own key, by its old one",
        "coordinator": "changes its own key, by its old one",
    },
    "getCuts": {"participant": "needs the cuts that name its lanes, to attest"},
    "submitCut": _OWN_SUBMISSION,
    "submitAttestation": _OWN_SUBMISSION,
    "submitStatements": {"participant": "is told that its release is too old"},
    "getLatestSubmission": {
        "participant": "finds out by it that it runs on an old backup",
        "suspended": "the same, before it settles",
        "approved": "the same, before it is active again",
    },
    "listPendingInstructions": _OWN_INSTRUCTIONS,
    "acknowledgeInstruction": _OWN_INSTRUCTIONS,
}
PARTICIPANT: dict[str, Row] = {
    "getKeys": {ANYBODY: "public keys, to verify tokens by"},
    "getMetadata": {ANYBODY: "where tokens are asked for; nobody has one before"},
    "requestToken": {ANYBODY: "proves who it is by the request itself"},
    "isLive": _HEALTH,
    "isReady": _HEALTH,
    "isStarted": _HEALTH,
    "submitPayment": _PAYER,
    "submitPayments": _PAYER,
    "returnPayment": _PAYER,
    "cancelPayment": _PAYER,
    "cancelPayments": _PAYER,
    "recallPayment": _PAYER,
    "returnRecalled": _PAYER,
    "refuseRecall": _PAYER,
    "listRecalls": {**_READ, "orders": "sees what it asks for, and what it is asked for"},
    "disputePayment": _PAYER,
    "withdrawDispute": _PAYER,
    "listPayments": _PAYMENTS,
    "getPayment": _PAYMENTS,
    "listCyclePayments": _PAYMENTS,
    "getBatch": _BATCHES,
    "listBatchOrders": _BATCHES,
    "listHolds": {**_READ, "screening": "sees what waits for its decision"},
    "decideHolds": {"screening": "decides on many at once, each with a second person"},
    "decideHold": {"screening": "decides on it, with a second person"},
    "importList": {"lists": "keeps the lists that payments are screened by"},
    "listLists": {**_READ, "lists": "sees what it imported", "screening": "sees what a payment was held by"},
    "listWaiting": {**_READ, "lists": "sees what waits for a second person", "accounts": "sees the same"},
    "openAccounts": _BOOKKEEPER,
    "makeEntry": _BOOKKEEPER,
    "setAccountState": _BOOKKEEPER,
    "renameAccount": _BOOKKEEPER,
    "setCeiling": _BOOKKEEPER,
    "setCeilingForAll": _BOOKKEEPER,
    "explainMovement": _BOOKKEEPER,
    "listAccounts": _BOOKS,
    "listPostings": _BOOKS,
    "getAccount": _BOOKS,
    "getEntry": _BOOKS,
    **dict.fromkeys(("getBalance", "getStatement", "getStatementAsCsv", "getStatementAsMessage"), _BOOKS),
    "balancesAt": _BOOKS,
    "listCeilings": _BOOKS,
    "listExposures": _BOOKS,
    "getSettlementAccount": _BOOKS,
    "listMovements": _BOOKS,
    "listLanes": _CYCLES,
    "listEvents": _HEARS,
    "addWebhook": _SENDS,
    "deleteWebhook": _SENDS,
    "changeWebhookSecret": _SENDS,
    "replayWebhook": _SENDS,
    "listWebhooks": {**_READ, **_SENDS},
    "getWebhook": {**_READ, **_SENDS},
    "getCycleMembership": _CYCLES,
    "listAttestations": _CYCLES,
    "listPositions": _CYCLES,
    "getPositionEvidence": _CYCLES,
    "listInstructions": _CYCLES,
    "listSharedLanes": _PEER,
    "receivePayments": _PEER,
    "reconcile": {"orders": "looks into what other banks have otherwise"},
    "listReconciliations": _CYCLES,
    "getReconciliation": _CYCLES,
    **dict.fromkeys(("compareLane", "agreeSecret", "openSet", "getSymbols", "getRecords"), _COMPARES),
    "receiveRecall": {"participant": "asks for a payment back that it sent"},
    "getEvidence": _PEER,
    "compareResults": {
        "participant": "compares what the coordinator showed both of a pair",
        "suspended": "the same: it settles by it, and a suspension mustn't hide a lie",
    },
}
AGENT: dict[str, Row] = {
    "isLive": _HEALTH,
    "isReady": _HEALTH,
    "isStarted": _HEALTH,
    "listAccounts": _STAFF,
    "openAccount": _STAFF,
    "fundAccount": _STAFF,
    "getAccounts": {**_STAFF, "participant": "its own accounts"},
    "settle": {"coordinator": "asks for the settlement of a cycle"},
    "listNotifications": {"participant": "what moved on its own accounts"},
}
ACCESS = {"coordinator": COORDINATOR, "participant": PARTICIPANT, "agent": AGENT}

OWN = {"changeKey": "not_yours", "setBilateralLimit": "not_yours", "getAccounts": "not_yours"}
"""What names whom it concerns in its path: what another active participant is told."""

# Whoever is named in no row has no access at all. Who is named in some is told, elsewhere, the first of these that
# applies: what is wrong with the one who asks, then with what it asks for. In order of precedence.
_NO_ONE = {
    "nobody": "token_missing",
    "somebody with no token": "token_malformed",
    "somebody whose token expired": "token_expired",
    "somebody with a token for another member": "token_audience_wrong",
    "somebody who signed the token himself": "token_key_unknown",
}
REFUSED: dict[str, dict[str, str]] = {
    "coordinator": {
        **_NO_ONE,
        "applied": "token_withdrawn",
        "left": "token_withdrawn",
        "replaced": "token_withdrawn",
        "unknown": "token_withdrawn",
        "a removed operator": "token_withdrawn",
        "an operator in another role": "token_withdrawn",
        "a participant in another role": "token_withdrawn",
        "a participant by an assertion for another bank": "token_header_refused",
        **dict.fromkeys(("staff", "orders", "screening", "lists", "accounts", "events", "read"), "token_key_unknown"),
        **dict.fromkeys(("operator", "auditor", "participant", "another", "agent", "coordinator"), "role_not_allowed"),
        **dict.fromkeys(("suspended", "approved"), "member_not_active"),
    },
    "participant": {
        **_NO_ONE,
        # By the coordinator's word nobody gets in, and by his own only who is on the trust list.
        **dict.fromkeys(("operator", "auditor", "a participant by the coordinator's word"), "token_key_unknown"),
        **dict.fromkeys(("applied", "left", "replaced", "unknown"), "token_key_unknown"),
        "people of another bank": "token_key_unknown",
        "staff": "token_claims_refused",
        **dict.fromkeys(("orders", "screening", "lists", "accounts", "events", "read"), "role_not_allowed"),
        **dict.fromkeys(("agent", "coordinator", "participant"), "role_not_allowed"),
        **dict.fromkeys(("suspended", "approved"), "sender_not_active"),
    },
    "agent": {
        **_NO_ONE,
        **dict.fromkeys(("applied", "left", "replaced", "unknown"), "token_key_unknown"),
        **dict.fromkeys(("orders", "screening", "lists", "accounts", "events", "read"), "token_key_unknown"),
        **dict.fromkeys(("operator", "auditor", "coordinator", "staff", "agent"), "role_not_allowed"),
        **dict.fromkeys(("participant", "another"), "role_not_allowed"),
        "a participant by the coordinator's word": "assertion_needed",
        **dict.fromkeys(("suspended", "approved"), "member_not_active"),
    },
}
"""Every kind of caller there is, by service, and what it is told where no row names it."""

OTHERWISE: dict[tuple[str, str], str] = {
    # Keys don't change in a suspension, whoever asks: they may be the reason for it.
    ("changeKey", "suspended"): "member_inactive",
}
"""By operation and caller: what is told there instead."""


def answers(service: str, operation: str, caller: str) -> set[str]:
    """Return the codes by which a caller is refused; empty if the table lets it in."""
    row = ACCESS[service][operation]
    if ANYBODY in row or caller in row:
        return set()
    if caller == "another" and "participant" in row:
        return {OWN[operation]} if operation in OWN else set()
    code = OTHERWISE.get((operation, caller)) or REFUSED[service][caller]
    # A participant that isn't active is told so, or that no participant may: which is looked at first is no secret.
    inactive = caller in ("suspended", "approved", "a participant by the coordinator's word")
    return {code, "role_not_allowed"} if inactive and "participant" not in row else {code}
