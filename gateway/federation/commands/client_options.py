"""The options of every command that asks the coordinator something as a client: `console`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CoordinatorUrl = Annotated[
    str, typer.Option(envvar="CONCORDAT_COORDINATOR_URL", help="URL of the coordinator.", show_default=False)
]
CoordinatorBic = Annotated[
    str, typer.Option(envvar="CONCORDAT_COORDINATOR_BIC", help="BIC of the coordinator.", show_default=False)
]
ClientName = Annotated[
    str, typer.Option(envvar="CONCORDAT_CLIENT", help="Your name at the coordinator.", show_default=False)
]
ClientKey = Annotated[
    Path,
    typer.Option(
        envvar="CONCORDAT_CLIENT_KEY",
        help="Your private key (PEM) that the coordinator knows.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
