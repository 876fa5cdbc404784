"""Who may ask what of a bank's node, and what stands in its paths: the same in every module of the API."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import PathParameter

from compliance.statements import CurrencyCode, CycleId
from gateway.federation.http.node import requires
from gateway.federation.http.parameters import form_of
from gateway.federation.identity.tokens import Claims
from gateway.federation.messages.base import SpelledBic
from participants.node import BankNode
from participants.roles import Role, Scope

ORDERS = [requires(Role.ORDERS)]
SEES_PAYMENTS = [requires(Role.READ, Role.ORDERS, Role.SCREENING, scope=Scope.PAYMENTS)]
SEES_ORDERS = [requires(Role.READ, Role.ORDERS, scope=Scope.PAYMENTS)]
SEES_HOLDS = [requires(Role.READ, Role.SCREENING, scope=Scope.PAYMENTS)]
DECIDES_HOLDS = [requires(Role.SCREENING)]
SEES_LISTS = [requires(Role.READ, Role.SCREENING, Role.LISTS, scope=Scope.LISTS)]
KEEPS_LISTS = [requires(Role.LISTS)]
SEES_ACCOUNTS = [requires(Role.READ, Role.ACCOUNTS, scope=Scope.ACCOUNTS)]
KEEPS_ACCOUNTS = [requires(Role.ACCOUNTS)]
"""Opens and changes accounts, books entries, sets ceilings."""
SEES_PROPOSALS = [requires(Role.READ, Role.ACCOUNTS, Role.LISTS, scope=Scope.ACCOUNTS)]
SEES_CYCLES = [requires(Role.READ, Role.ORDERS, scope=Scope.CYCLES)]
SEES_WEBHOOKS = [requires(Role.EVENTS, Role.READ)]
KEEPS_WEBHOOKS = [requires(Role.EVENTS)]
MEMBERS = [requires("participant")]
"""Other banks, by what they say of themselves; what each may see is between it and this bank."""

ConcordatRequest = Request[str, Claims, Any]
"""Who is asking is in `request.auth`."""
Node = NamedDependency[BankNode]
CyclePath = Annotated[str, PathParameter(**form_of(CycleId))]
AccountPath = Annotated[int, PathParameter(ge=1, le=2**63 - 1)]
BicPath = Annotated[str, PathParameter(**form_of(SpelledBic))]
CurrencyPath = Annotated[str, PathParameter(**form_of(CurrencyCode))]
