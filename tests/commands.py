"""Commands run as a shell would, with what they print and their exit code, in this process: that is quicker by far."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from gateway.cli import main


class Said(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def concordat(arguments: str | list[str], environment: Mapping[str, str]) -> Said:
    """Run a command with these settings and no others. A defect of the program is raised."""
    words = arguments.split() if isinstance(arguments, str) else arguments
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCORDAT_")}
    inherited.pop("DATABASE_URL", None)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, {**inherited, **environment}, clear=True),
        patch.object(sys, "argv", ["concordat", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Said(code, out.getvalue(), err.getvalue())
