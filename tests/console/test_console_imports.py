"""The console starts fast and knows no server: neither web framework nor database is loaded with it."""

from __future__ import annotations

import subprocess
import sys


def test_the_console_loads_no_server() -> None:
    script = (
        "import sys, tui.cli, tui.run\n"
        "print([m for m in ('litestar', 'sqlalchemy', 'asyncpg', 'gateway.coordinator') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_the_command_is_registered_without_textual() -> None:
    script = "import sys, tui.cli; print('textual' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"
