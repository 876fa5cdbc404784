"""The directory of an embedded PostgreSQL: nobody else's, and reached without opening what is above it."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import shutil
import stat
import tempfile
import weakref
from functools import cached_property
from pathlib import Path

from gateway.federation.settings import ConfigurationError

SOCKET_PATH_BYTES_MAX = 103
"""Of a unix socket's path: 107 with Linux, 103 with others."""
_DESCRIPTORS = Path("/proc/self/fd")
PASSWORD_FILE = "superuser-password"  # noqa: S105 - a name


class PostgresError(ConfigurationError):
    """PostgreSQL can't be used as it is. The message says why and what to do."""


class ServerDirectory:
    """A directory that belongs to the server's account alone; its own entry, and those in it, are never links.

    `account` is whom the server runs as, None for ourselves. Root's directories may be closed to that account, and stay
    so: it gets this one as an open descriptor, and reaches it as `inner` without passing any of them.
    """

    def __init__(self, path: Path, account: pwd.struct_passwd | None, *, socket: str) -> None:
        path = path.expanduser()
        self.path = path.parent.resolve() / path.name
        self._account = account
        self._socket = socket
        self._descriptor: int | None = None

    def open(self) -> None:
        """Make it if it isn't there, and hold it open. Raises PostgresError if it isn't ours alone."""
        if self._descriptor is None:
            self._descriptor = self._opened()

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def descriptor(self) -> int:
        assert self._descriptor is not None, "the directory isn't open"
        return self._descriptor

    @property
    def inner(self) -> Path:
        """Its path for processes that are given the descriptor."""
        if self._account is not None and _DESCRIPTORS.is_dir():
            return _DESCRIPTORS / str(self.descriptor)
        return self.path

    @cached_property
    def reachable(self) -> Path:
        """Its path for clients of the socket in it: the true one, or where that is too long for a socket, a short one.

        The short one goes through a directory that is ours alone and has a random name, while this object lives.
        """
        if len(os.fsencode(self.path / self._socket)) <= SOCKET_PATH_BYTES_MAX:
            return self.path
        private = Path(tempfile.mkdtemp(prefix="concordat-"))
        weakref.finalize(self, shutil.rmtree, private, ignore_errors=True)
        (private / "pg").symlink_to(self.path)
        return private / "pg"

    def open_file(self, name: str, flags: int) -> int:
        """Open a file of it and return the descriptor; what is created is ours. Raises PostgresError for a link."""
        try:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise PostgresError(f"{self.path / name} is a link: remove it, and find out who put it there") from error

    def tail(self, name: str, bytes_max: int) -> str:
        """Return the end of a text file; nothing if there is none."""
        try:
            with open(self.open_file(name, os.O_RDONLY), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - bytes_max))
                return file.read().decode(errors="replace")
        except (OSError, PostgresError):
            return ""

    def password(self, given: str | None) -> str:
        """Return the superuser's password; the first who asks makes it, or says what it is."""
        was_open = self._descriptor is not None
        self.open()
        try:
            with contextlib.suppress(FileNotFoundError):
                return self._read_password()
            self._write_password(given or secrets.token_hex(32))
            return self._read_password()
        finally:
            if not was_open:
                self.close()

    def _read_password(self) -> str:
        with open(self.open_file(PASSWORD_FILE, os.O_RDONLY), encoding="ascii") as file:
            return file.read().strip()

    def _write_password(self, password: str) -> None:
        temporary = f"{PASSWORD_FILE}.{secrets.token_hex(8)}"
        with open(self.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="ascii") as file:
            if self._account is not None:
                os.fchown(file.fileno(), self._account.pw_uid, self._account.pw_gid)
            file.write(password + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Whole, or not there; whoever comes second takes the first one's.
        with contextlib.suppress(FileExistsError):
            here = self.descriptor
            os.link(temporary, PASSWORD_FILE, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
        os.unlink(temporary, dir_fd=self.descriptor)

    def _opened(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise PostgresError(f"{self.path} isn't a directory of its own (a link, or a file): remove it") from error
        owner = os.geteuid() if self._account is None else self._account.pw_uid
        try:
            if os.fstat(descriptor).st_uid not in (owner, os.geteuid()):
                raise PostgresError(f"{self.path} belongs to another user; choose another data directory")
            # By the descriptor: what was looked at is what is changed, whatever its name leads to by now.
            if self._account is not None:
                os.fchown(descriptor, self._account.pw_uid, self._account.pw_gid)
            os.fchmod(descriptor, stat.S_IRWXU)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
