"""ISO 20022 messages as evidence: what is signed of them, and as much of them as can be checked without the agent.

A message is signed as the bytes that it is: it is the payload of a DSSE envelope, under a payload type of its own, so
that it stays valid XML and one kind of message never passes for another.
"""

from __future__ import annotations

SETTLEMENT_REQUEST_TYPE = "application/vnd.concordat.pacs.029.001.02+xml"
"""From the coordinator to the settlement agent."""
SETTLEMENT_ANSWER_TYPE = "application/vnd.concordat.pacs.002.001.10+xml"
"""From the settlement agent to the coordinator."""
NOTIFICATION_TYPE = "application/vnd.concordat.camt.054.001.08+xml"
"""From the settlement agent to a participant."""
