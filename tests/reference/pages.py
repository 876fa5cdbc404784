"""The pages of docs/reference that are made from the program, so that they can't say anything else."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from compliance.crypto.dsse import EvidenceReason
from compliance.crypto.points import PointReason
from compliance.cycle import states as cycle_states
from compliance.cycle.approval import DecisionRefusal
from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.return_reasons import ReturnReason
from compliance.screening import holds as screening_holds
from compliance.screening.lists import ListRefusal
from compliance.statements import CarryReason
from compliance.verifier.findings import Finding
from gateway import cli
from gateway.agent.authority import AuthorityReason
from gateway.agent.ledger import LedgerReason
from gateway.agent.settlement import RejectionCode
from gateway.analysis.files import InputReason
from gateway.coordinator.access.standing import AccessReason
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.registry import lifecycle
from gateway.coordinator.registry.acts import ACTS
from gateway.federation.identity.tokens import TokenReason
from gateway.federation.iso20022.reasons import MessageReason
from gateway.federation.membership.trust import FreshnessReason, TrustReason
from gateway.federation.money import AmountReason
from gateway.federation.problems import RefusalReason, ServiceReason
from netting.advice import AdviceReason
from netting.default import DefaultReason
from netting.loss_allocation.clearing_vector import ClearingReason
from netting.loss_allocation.pro_rata import ProRataReason
from netting.loss_allocation.waterfall import WaterfallReason
from netting.model import ObligationReason
from netting.plan import PlanReason
from netting.queue import ActionReason, QueueReason
from participants.account_statements import StatementReason
from participants.api.positions import PositionReason
from participants.api.settlement import MovementReason
from participants.api.views import RequestReason
from participants.archive.document import ArchiveReason
from participants.cycle.movements import MovementFault
from participants.cycle.results import SharedResultReason
from participants.cycle.statements import InstructionReason
from participants.feed.feed import FeedReason
from participants.intake.rows import RowReason
from participants.ledger.account_changes import ChangeReason
from participants.ledger.accounts import AccountReason
from participants.ledger.ceilings import CeilingReason
from participants.ledger.own_entries import EntryReason
from participants.ledger.partitions import JournalReason
from participants.ledger.payment import TRANSITIONS
from participants.ledger.session import RestoredReason
from participants.ledger.writer import WriterReason
from participants.matching.refusals import TableReason
from participants.payments.batches import BatchRequestReason
from participants.payments.cancellations import CancellationReason
from participants.payments.disputes import DisputeReason
from participants.payments.holds import HoldReason
from participants.payments.inbound import BatchReason
from participants.payments.incoming import DeclineReason
from participants.payments.orders import OrderReason
from participants.payments.recalls import RecallRequestReason
from participants.payments.screening import ImportReason
from participants.payments.unsettled import LeftReason
from participants.reconciliation.answering import ReconciliationReason
from participants.reconciliation.breaks import BreakKind, Healing
from participants.reconciliation.faults import Fault
from participants.reconciliation.reconciliations import ReconciliationRequestReason
from participants.roles import PeerReason
from participants.search.settlement import SettlementState
from participants.statements.reasons import StatementFileReason
from participants.text_files.records import FileReason
from participants.webhooks.targets import TargetReason
from participants.webhooks.webhooks import WebhookReason

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = DOCS / "reference"
DECISIONS = """
`concordat decide propose KIND SUBJECT --reason WHY --term NAME=VALUE …` proposes it, and another operator confirms
what is shown with `concordat decide confirm ID`. The subject is the member's BIC, of `client.…` the operator's or
auditor's name, of `rulebook.adopt` the coordinator's BIC. Amounts are minor units:
`--term currency=EUR --term cap_minor=250000000` caps a bank's net debit at EUR 2,500,000.00. What concerns a cycle is
proposed and confirmed in [the console](../operating/console.md).

"""
MADE = "<!-- Made by `make reference`; don't edit. -->\n"

SERVICES = {
    "participant": (
        "A bank's node",
        "the bank's own issuer; other members come with assertions of their own ([trust](../concepts/trust.md))",
    ),
    "coordinator": ("The coordinator", "the coordinator's own issuer"),
    "agent": ("The settlement agent", "the agent's own issuer (staff), the coordinator's (everybody else)"),
}

REASONS: dict[str, tuple[type[StrEnum], ...]] = {
    "Access": (TokenReason, AccessReason),
    "Payments at a bank": (
        OrderReason,
        DeclineReason,
        PeerReason,
        BatchReason,
        CancellationReason,
        RecallRequestReason,
        DisputeReason,
        AccountReason,
        EntryReason,
        ChangeReason,
        StatementReason,
        CeilingReason,
        RequestReason,
        BatchRequestReason,
        RestoredReason,
        WriterReason,
        FeedReason,
        JournalReason,
        LeftReason,
    ),
    "Parts of a journal": (ArchiveReason,),
    "Returns": (ReturnReason,),
    "Recalls": (RecallReason, RecallRefusal),
    "Reconciliation": (ReconciliationRequestReason, ReconciliationReason, BreakKind, Healing, Fault),
    "Webhooks": (TargetReason, WebhookReason),
    "Screening": (HoldReason, screening_holds.HoldRefusal, ImportReason, ListRefusal),
    "Payment files": (FileReason, RowReason, AmountReason),
    "Statement files": (StatementFileReason,),
    "Reconciliation of files": (TableReason,),
    "Cycles": (
        CycleReason,
        DecisionRefusal,
        CarryReason,
        InstructionReason,
        SharedResultReason,
        PositionReason,
        FailureReason,
    ),
    "Netting, and files for analysis": (ObligationReason, QueueReason, ActionReason, InputReason),
    "Settlement plans, defaults and advice": (
        PlanReason,
        DefaultReason,
        WaterfallReason,
        ClearingReason,
        ProRataReason,
        AdviceReason,
    ),
    "Registry and trust": (lifecycle.RegistryReason, PointReason, TrustReason, FreshnessReason),
    "Settlement agent": (AuthorityReason, LedgerReason, MessageReason, RejectionCode),
    "A bank's settlement account": (MovementFault, MovementReason),
    "Exports": (Finding, EvidenceReason),
}


def pages(documents: Mapping[str, dict[str, Any]]) -> dict[Path, str]:
    """Return the generated pages by path. `documents` are the services' OpenAPI documents."""
    return {
        REFERENCE / "commands.md": commands(),
        REFERENCE / "http-api.md": http_api(documents),
        REFERENCE / "reasons.md": reasons(),
        REFERENCE / "payment-states.md": payment_states(),
        REFERENCE / "cycle-states.md": cycle_and_member_states(),
        REFERENCE / "decisions.md": decisions(),
    }


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


# --- commands ---------------------------------------------------------------------------------------------


def every_command() -> Iterator[tuple[str, Any]]:
    """Yield every command with its whole name, in the order of `--help`."""
    for name in cli.COMMANDS:
        yield from _within(f"concordat {name}", cli.load(name))


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command, or those of a group, however deep."""
    group = getattr(command, "commands", None)
    if group is None:
        yield name, command
    else:
        for sub, one in group.items():
            yield from _within(f"{name} {sub}", one)


def commands() -> str:
    parts = [
        "# Commands\n\n",
        MADE,
        "\n`concordat --help`, and `--help` after any command, say the same. Commands that run or look after a node "
        "take who they are from [settings](settings.md). Exit code 2: a wrong setting or option.\n",
    ]
    for name, command in every_command():
        parts.append(f"\n## {name}\n\n{_paragraphs(command.help)}\n")
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("\n" + table(("argument or option", "environment", "default", "meaning"), rows))
    return "".join(parts)


def _parameter(parameter: Any) -> tuple[str, str, str, str]:
    if type(parameter).__name__ == "TyperArgument":
        name = f"`{parameter.name.upper()}`"
    else:
        name = " ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default in (None, (), []) or isinstance(default, bool):
        shown = {True: "yes", False: "no"}[default] if parameter.__dict__.get("is_flag") else ""
    else:
        shown = f"`{default}`"
    lowest, highest = parameter.__dict__.get("min"), parameter.__dict__.get("max")
    bounds = "" if lowest is None and highest is None else f" ({_range(lowest, highest)})"
    return name, f"`{parameter.envvar}`" if parameter.envvar else "", shown, (parameter.help or "") + bounds


def _range(lowest: Any, highest: Any) -> str:
    if highest is None:
        return f"{lowest:,} or more"
    return f"{lowest:,} to {highest:,}"


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


# --- HTTP -------------------------------------------------------------------------------------------------


def http_api(documents: Mapping[str, dict[str, Any]]) -> str:
    parts = [
        "# HTTP APIs\n\n",
        MADE,
        "\nEach service serves its OpenAPI 3.1 document at `/schema/openapi.json`; the same files are in "
        "[openapi/](openapi/). Requests are closed: an unknown member is refused, and so is a repeated one, an "
        "unknown query parameter, and a body where an operation takes none, an empty one or `{}` aside. Answers are "
        "open: a client passes over members and words that it doesn't know ([compatibility](compatibility.md)). Money "
        "is a string of digits in minor units. A refusal is a problem document (RFC 9457, `application/problem+json`) "
        "with a stable `code` ([reasons](reasons.md)) and the request's correlation id as `instance`, which is also "
        "in the header `X-Correlation-ID` and in the log; the token endpoint answers in the form of RFC 6749 instead. "
        "A request that isn't as documented is 400 `validation_failed`, and `errors` says all that is wrong with it: "
        "where (a JSON `pointer` into the body, a `parameter` of query or path, a `header`), what was said, what is "
        "right. A body is `application/json` in UTF-8, as it is: anything else is 415. `Accept` is looked at for the "
        "stream of `GET /events` alone; any other answer has the one media type that is described. `HEAD` is answered "
        "wherever `GET` is; 405 and `OPTIONS` (without a token) name the methods of a path in `Allow`. Every list "
        'takes `limit` and `cursor`: the header `Link` names the following page (`rel="next"`), and a list that is an '
        "object gives its cursor as `next`. A list that is an array is whole unless a `limit` is asked for, `/holds` "
        "and a bank's `/proposals` aside. Feeds (`/events`, movements, notifications) have no end: they take `after` "
        "and always give `next`. Metrics and the details of readiness are on [the private "
        "port](../operating/README.md#what-to-watch).\n",
    ]
    for service, (title, issuer) in SERVICES.items():
        rows = [
            (f"`{method.upper()} {path}`", f"`{operation['operationId']}`", _roles(operation), operation["summary"])
            for path, item in documents[service]["paths"].items()
            for method, operation in item.items()
        ]
        parts.append(f"\n## {title}\n\nTokens of {issuer}. [openapi/{service}.json](openapi/{service}.json)\n\n")
        parts.append(table(("request", "operation", "roles", ""), rows))
    return "".join(parts)


def _roles(operation: Mapping[str, Any]) -> str:
    return ", ".join(role for way in operation["security"] for role in way["bearer"]) or "anybody"


# --- reasons ----------------------------------------------------------------------------------------------


def reasons() -> str:
    parts = [
        "# Reasons\n\n",
        MADE,
        "\nEvery refusal has a stable code. Within a list the codes are in order of precedence: the first that applies "
        "is the answer. Codes with an explanation have it; the others say what they mean.\n\n"
        "What any service may answer besides is [at the end](#any-service).\n",
    ]
    for title, enums in REASONS.items():
        parts.append(f"\n## {title}\n")
        for enum in enums:
            notes = explanations(enum)
            head = " ".join((enum.__doc__ or "").split("\n\n")[0].split())
            parts.append(f"\n**{enum.__name__}**: {head}\n\n")
            parts += [
                f"{number}. {_code(member)}" + (f": {notes[member.name]}" if member.name in notes else "") + "\n"
                for number, member in enumerate(enum, start=1)
            ]
    notes = explanations(ServiceReason)
    common = [(reason.value, str(reason.status), notes.get(reason.name, "")) for reason in ServiceReason]
    parts.append("\n## Any service\n\n" + table(("code", "status", ""), common))
    return "".join(parts)


def _code(reason: StrEnum) -> str:
    """Return a reason's code and, where a request is refused for it, the HTTP status."""
    return f"`{reason.value}`" + (f" ({reason.status})" if isinstance(reason, RefusalReason) else "")


def explanations(enum: type[StrEnum]) -> dict[str, str]:
    """Return what is written under the members of an enumeration, by member."""
    (tree,) = ast.parse(inspect.getsource(enum)).body
    assert isinstance(tree, ast.ClassDef)
    found = {member.name: member.meaning for member in enum if isinstance(member, ReturnReason)}
    for member, note in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(member, ast.Assign)
            and isinstance(member.targets[0], ast.Name)
            and isinstance(note, ast.Expr)
            and isinstance(note.value, ast.Constant)
        ):
            text = " ".join(str(note.value.value).split()).rstrip(".")
            found[member.targets[0].id] = text[0].lower() + text[1:]
    return found


# --- states -----------------------------------------------------------------------------------------------


def payment_states() -> str:
    """One row for each transition of a payment at a bank, and for each word on its settlement."""
    notes = explanations(SettlementState)
    return (
        "# Payment states\n\n" + MADE + "\nWhat can happen to a payment in the books of one bank; nothing else does. "
        "[The life of a payment](../concepts/payment-life-cycle.md) tells the story.\n\n"
        + table(
            ("state", "event", "then"),
            ((_state(was), f"`{event}`", _state(then)) for (was, event), then in TRANSITIONS.items()),
        )
        + "\n## Whether it is settled\n\nWhat `settlement.state` says of a payment, in order of precedence.\n\n"
        + table(("state", "which is"), ((_state(state), notes[state.name]) for state in SettlementState))
    )


def cycle_and_member_states() -> str:
    """One row for each transition of a cycle and of a participant."""
    return (
        "# States of cycles and participants\n\n"
        + MADE
        + "\n## A cycle\n\n[The life of a cycle](../concepts/cycle-life-cycle.md) tells the story.\n\n"
        + _transitions(cycle_states.TRANSITIONS, "trigger")
        + "\n## A participant\n\nEach step is an operator's, and needs a reason.\n\n"
        + _transitions(lifecycle.TRANSITIONS, "step")
    )


def decisions() -> str:
    """One row for each kind of act that operators propose of the registry."""
    rows = []
    for kind, (terms, _) in ACTS.items():
        fields = msgspec.structs.fields(terms)
        named = (f"`{field.name}`" + ("" if field.required else " (may be left out)") for field in fields)
        rows.append((f"`{kind}`", ", ".join(named), _paragraphs(inspect.getdoc(terms)) if fields else ""))
    return "# What operators decide together\n\n" + MADE + DECISIONS + table(("kind", "terms", "which are"), rows)


def _transitions(transitions: Mapping[Any, StrEnum], what: str) -> str:
    rows = ((_state(was), f"`{trigger.value}`", _state(then)) for (was, trigger), then in transitions.items())
    return table(("state", what, "then"), rows)


def _state(state: StrEnum | None) -> str:
    return "(none)" if state is None else f"`{state.value}`"
