"""ISO 20022 between the coordinator, the settlement agent and the participants.

Three messages, each in one envelope with its header (`framing`): the settlement request (pacs.029), the answer
(pacs.002) and the notification of an entry (camt.054). Readers refuse with `MessageRefused`, whose reason is a
`MessageReason`.
"""

from gateway.federation.iso20022.camt054 import Notification, notification, read_notification
from gateway.federation.iso20022.pacs002 import Status, StatusReport, read_status, status_report
from gateway.federation.iso20022.pacs029 import (
    Movement,
    SettlementRequest,
    read_settlement_request,
    settlement_request,
)
from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.iso20022.xml import MESSAGE_BYTES_MAX

MEDIA_TYPE = "application/xml"

__all__ = [
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
    "settlement_request",
    "status_report",
]
