"""ISO 20022 between the coordinator, the settlement agent and the participants.

Three messages, each in one envelope with its header (`framing`): the settlement request (pacs.029), the answer
(pacs.002) and the notification of an entry (camt.054). Readers refuse with `MessageRefused`, whose reason is a
`MessageReason`.
"""

from gateway.federation.iso20022 import camt054, framing, pacs002, pacs029
from gateway.federation.iso20022.camt054 import Notification, notification, read_notification
from gateway.federation.iso20022.pacs002 import Status, StatusReport, read_status, status_report
from gateway.federation.iso20022.pacs029 import (
    Movement,
    SettlementRequest,
    read_settlement_request,
    settlement_request,
)
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.schemas import require_schemas
from gateway.federation.iso20022.xml import MESSAGE_BYTES_MAX

MEDIA_TYPE = "application/xml"
DEFINITIONS = (framing.HEADER_DEFINITION, pacs029.DEFINITION, pacs002.DEFINITION, camt054.DEFINITION)

__all__ = [
    "DEFINITIONS",
    "MEDIA_TYPE",
    "MESSAGE_BYTES_MAX",
    "MessageReason",
    "MessageRefused",
    "Movement",
    "Notification",
    "SettlementRequest",
    "Status",
    "StatusReport",
    "notification",
    "read_notification",
    "read_settlement_request",
    "read_status",
    "require_schemas",
    "settlement_request",
    "status_report",
]
