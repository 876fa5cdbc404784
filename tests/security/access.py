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
_TWO_OPERATORS = {"operator": "one of the two who decide it"}
_OWN_SUBMISSION = {"participant": "states its own, signed by itself"}
_STAFF = {"staff": "the institution's own people, by its own issuer"}
_READ = {"read": "sees everything that is the bank's own, and changes nothing"}
_PAYER = {"orders": "pays, returns and contests for the bank's customers"}
_PAYMENTS = {
    **_READ,
    "orders": "sees what became of what it ordered",
    "screening": "sees the payment that it decides on",
}
_CYCLES = {**_READ, "orders": "sees how far the lanes to other banks are"}
_BOOKKEEPER = {"accounts": "keeps the bank's accounts, and says how much others may owe"}
_BOOKS = {**_READ, "accounts": "sees what it keeps"}
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
    "getFinality": _SHARED,
    "listCycleInstructions": _SHARED,
    "getPositions": _SHARED,
    "getProof": _SHARED,
    "listEvents": _SHARED,
    "listParticipants": _SHARED,
    "getParticipant": _SHARED,
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
    "submitPayment": _PAYER,
    "submitPayments": _PAYER,
    "returnPayment": _PAYER,
    "disputePayment": _PAYER,
    "withdrawDispute": _PAYER,
    "listPayments": _PAYMENTS,
    "getPayment": _PAYMENTS,
    "listHolds": {**_READ, "screening": "sees what waits for its decision"},
    "decideHold": {"screening": "decides on it, with a second person"},
    "importList": {"lists": "keeps the lists that payments are screened by"},
    "listLists": {**_READ, "lists": "sees what it imported", "screening": "sees what a payment was held by"},
    "listWaiting": {**_READ, "lists": "sees what waits for a second person", "accounts": "sees the same"},
    "openAccounts": _BOOKKEEPER,
    "setCeiling": _BOOKKEEPER,
    "setCeilingForAll": _BOOKKEEPER,
    "explainMovement": _BOOKKEEPER,
    "listAccounts": _BOOKS,
    "listPostings": _BOOKS,
    "balancesAt": _BOOKS,
    "listCeilings": _BOOKS,
    "listExposures": _BOOKS,
    "getSettlementAccount": _BOOKS,
    "listMovements": _BOOKS,
    "listLanes": _CYCLES,
    "getCycleMembership": _CYCLES,
    "listAttestations": _CYCLES,
    "listInstructions": _CYCLES,
    "listSharedLanes": _PEER,
    "receivePayments": _PEER,
    "getEvidence": _PEER,
    "compareResults": {"participant": "compares what the coordinator showed both of a pair"},
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
