"""Who may do what, and why: every operation of all three APIs, each yes with its reason. Whoever isn't named may not.

`ANYBODY` needs no token. Within a yes an operation may still look at whom it concerns (`own`): a bank sees its own.
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
_OPERATOR = {"operator": "decides it for the clearing house"}
_OWN_SUBMISSION = {"participant": "states its own, signed by itself"}
_STAFF = {"staff": "the institution's own people, by its own issuer"}
_BOOKS = {**_STAFF, "auditor": "checks the bank's books, and changes nothing"}
_PEER = {"participant": "the other bank of a payment"}

COORDINATOR: dict[str, Row] = {
    "getKeys": {ANYBODY: "public keys, to verify tokens by"},
    "getMetadata": {ANYBODY: "where tokens are asked for; nobody has one before"},
    "requestToken": {ANYBODY: "proves who it is by the request itself"},
    "getTrustList": {ANYBODY: "signed, and nobody is a member before it is read"},
    "applyAsParticipant": {ANYBODY: "nobody is a member before he applied; signed by the keys that it offers"},
    "isLive": _HEALTH,
    "isReady": _HEALTH,
    "isStarted": _HEALTH,
    "listCycles": _SHARED,
    "getCurrentCycle": _SHARED,
    "getCycle": _SHARED,
    "listBreaks": _SHARED,
    "getFinality": _SHARED,
    "listCycleInstructions": _SHARED,
    "getPositions": _SHARED,
    "getResult": _SHARED,
    "listEvents": _SHARED,
    "listParticipants": _SHARED,
    "getParticipant": _SHARED,
    "getCertificates": _HOUSE,
    "getChecks": _HOUSE,
    "previewDefault": _HOUSE,
    "listDeliveries": _HOUSE,
    "exportCycle": _HOUSE,
    "getProgress": _HOUSE,
    "listProposals": _HOUSE,
    "openCycle": _OPERATOR,
    "cutOffCycle": _OPERATOR,
    "propose": _OPERATOR,
    "decide": _OPERATOR,
    "retryCycle": _OPERATOR,
    "setCap": _OPERATOR,
    "setPrefunding": _OPERATOR,
    "setSettlementAccount": _OPERATOR,
    "moveParticipant": _OPERATOR,
    "setBilateralLimit": {**_OPERATOR, "participant": "grants what it is willing to be owed"},
    "changeKey": {
        "participant": "changes its own key, by its old one",
        "agent": "changes its own key, by its old one",
        "coordinator": "changes its own key, by its old one",
    },
    "getCuts": {"participant": "needs the cuts that name its lanes, to attest"},
    "submitCut": _OWN_SUBMISSION,
    "submitStatements": _OWN_SUBMISSION,
    "getLatestSubmission": _OWN_SUBMISSION,
    "listPendingInstructions": {"participant": "its own, to post them"},
    "acknowledgeInstruction": {"participant": "its own, posted"},
}
PARTICIPANT: dict[str, Row] = {
    "isLive": _HEALTH,
    "isReady": _HEALTH,
    "isStarted": _HEALTH,
    "listAccounts": _BOOKS,
    "listPostings": _BOOKS,
    "balancesAt": _BOOKS,
    "getCycleMembership": _BOOKS,
    "listAttestations": _BOOKS,
    "listInstructions": _BOOKS,
    "listHolds": _BOOKS,
    "listLanes": _BOOKS,
    "listPayments": _BOOKS,
    "getPayment": _BOOKS,
    "listLists": _BOOKS,
    "openAccounts": _STAFF,
    "decideHold": _STAFF,
    "submitPayment": _STAFF,
    "submitPayments": _STAFF,
    "withdrawDispute": _STAFF,
    "disputePayment": _STAFF,
    "returnPayment": _STAFF,
    "importList": _STAFF,
    "listSharedLanes": _PEER,
    "receivePayments": _PEER,
    "getEvidence": _PEER,
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
