"""As whom Postgres runs, and on which folders: it refuses to run as root, so root has to become somebody else.

Nobody's folder is ever opened for that. In this order, the first that works:

- *as you are*, for an ordinary user;
- *another user*: the uid of `nobody`, if it can reach the binaries and the data; only the data folder changes owner;
- *a user namespace* with one uid, in which root's own number is called `nobody`: works below folders that are closed
  to everybody else, but is refused in many containers;
- *a private folder*: `nobody` again, with the data (and the binaries, if need be) in /var/lib/viral-…, and the data
  folder under home a link to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local.spawn import EmbeddedError, spawn

CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True)
class Footing:
    how: str
    uid: int  # owner of the data folder, as seen from outside
    gid: int
    become: Callable[[], None] | None
    binaries: Path
    data: Path  # without symbolic links; may not exist yet
    major: int  # version of Postgres


@dataclass(frozen=True)
class Somebody:
    uid: int
    gid: int


def find_footing(
    link: Path, binaries: Path, *, private_root: Path = Path("/var/lib"), only: str | None = None
) -> Footing:
    """How to run the Postgres of `binaries` on the data folder `link`, which then belongs to whom it must.

    `only` picks one way by name instead of the first that works.
    """
    if os.geteuid() == 0:
        refuse_foreign_data(link)
    refused = []
    for how, attempt in ways(link, binaries, private_root):
        if only in {None, how}:
            try:
                footing = attempt()
                hand_over(footing)
            except subprocess.SubprocessError:  # of the child before it started a program; it cannot say more
                refused.append(f"{how}: not permitted")
            except (OSError, EmbeddedError) as error:
                refused.append(f"{how}: {error}")
            else:
                return footing
    advice = "run as an ordinary user, or set DATABASE_URL" if os.geteuid() == 0 else "set DATABASE_URL instead"
    raise EmbeddedError(f"Postgres cannot run here ({'; '.join(refused)}): {advice}.")


def ways(link: Path, binaries: Path, private_root: Path) -> Iterator[tuple[str, Callable[[], Footing]]]:
    me, other, data = Somebody(os.geteuid(), os.getegid()), nobody(), link.resolve()

    def plain() -> Footing:
        return probe("as you are", me, None, binaries, data)

    def another_user() -> Footing:
        return probe("another user", other, lambda: drop_to(other), binaries, data)

    def namespace() -> Footing:
        return probe("a user namespace", me, lambda: enter_namespace(me, other), binaries, data)

    def private_folder() -> Footing:
        return settle_privately(link, binaries, private_root, other)

    if me.uid == 0:
        yield "another user", another_user
        if sys.platform == "linux":
            yield "a user namespace", namespace
        yield "a private folder", private_folder
    else:
        if sys.platform == "linux" and not is_named(me.uid):  # initdb wants a name for the uid it runs as
            yield "a user namespace", namespace
        yield "as you are", plain


def nobody() -> Somebody:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Somebody(65534, 65534)
    return Somebody(entry.pw_uid, entry.pw_gid)


def is_named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def drop_to(who: Somebody) -> None:
    os.setgroups([])
    os.setgid(who.gid)
    os.setuid(who.uid)


def enter_namespace(outside: Somebody, inside: Somebody) -> None:
    """Keep being `outside`, but be called `inside`, without any of root's powers once a program is started."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_bytes(b"deny")
    Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (inside.uid, outside.uid))
    Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (inside.gid, outside.gid))


def probe(how: str, who: Somebody, become: Callable[[], None] | None, binaries: Path, data: Path) -> Footing:
    """Try it: become that user, look at where the data is, start a program of Postgres (which tells its version)."""

    def enter() -> None:
        if become is not None:
            become()
        with contextlib.suppress(FileNotFoundError):  # may be missing, not unreachable
            os.stat(data)

    program = spawn(
        [binaries / "initdb", "--version"],
        env=server_environment(),
        death_signal=signal.SIGKILL,
        stdout=subprocess.PIPE,
        cwd=Path("/"),
        become=enter,
    )
    said = program.communicate(timeout=20)[0].decode(errors="replace").strip()
    version = re.search(r"\(PostgreSQL\)\D*(\d+)", said)
    if program.returncode != 0 or version is None:
        raise EmbeddedError(f"{binaries / 'initdb'} does not run ({said or program.returncode})")
    return Footing(how, who.uid, who.gid, become, binaries, data, int(version[1]))


def server_environment() -> dict[str, str]:
    """Of ours, what any program needs; nothing secret, nothing that would configure a server behind our back, and a
    locale that is there on any machine."""
    needed = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in needed if name in os.environ} | {"LC_ALL": "C"}


def refuse_foreign_data(link: Path) -> None:
    """Root must not take an ordinary user's data folder away from them."""
    if link.exists() and (owner := link.stat().st_uid) not in {0, nobody().uid}:
        name = pwd.getpwuid(owner).pw_name if is_named(owner) else f"uid {owner}"
        raise EmbeddedError(f"{link} belongs to {name}: run as {name}, or choose another folder with --home.")


def hand_over(footing: Footing) -> None:
    """Give the data folder, if there is one already, to the user who runs the server on it."""
    if footing.data.exists() and footing.data.stat().st_uid != footing.uid:
        for folder, _, files in os.walk(footing.data, topdown=False):
            for name in (*files, ""):
                os.chown(Path(folder, name), footing.uid, footing.gid, follow_symlinks=False)


def settle_privately(link: Path, binaries: Path, root: Path, who: Somebody) -> Footing:
    """Move the data folder below `root`, leave a link, and copy the binaries there if they cannot be reached."""
    folder = root.resolve() / f"viral-{hashlib.sha256(str(link.absolute()).encode()).hexdigest()[:12]}"
    is_new = not folder.exists()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to somebody else")
    folder.chmod(0o711)  # whatever the umask said; this folder is ours
    data = folder / "postgres"
    try:
        footing = probe_anywhere(binaries, folder, data, who)
    except BaseException:
        if is_new:
            shutil.rmtree(folder)
        raise
    if not link.is_symlink():
        if data.exists():  # of a home deleted since: useless without its passwords, but not ours to throw away
            shutil.rmtree(folder / "postgres.old", ignore_errors=True)
            data.rename(folder / "postgres.old")
        if link.exists():
            shutil.move(link, data)
        link.symlink_to(data)
    return footing


def probe_anywhere(binaries: Path, folder: Path, data: Path, who: Somebody) -> Footing:
    try:
        return probe("a private folder", who, lambda: drop_to(who), binaries, data)
    except (OSError, EmbeddedError):
        return probe("a private folder", who, lambda: drop_to(who), copied(binaries, folder), data)


def copied(binaries: Path, folder: Path) -> Path:
    """The same binaries below `folder`, with the libraries that a wheel keeps in `….libs` beside its package."""
    install = binaries.parent
    target = folder / f"binaries-{install.stat().st_mtime_ns}" / "package" / install.name
    if not target.exists():
        for stale in folder.glob("binaries-*"):
            shutil.rmtree(stale)
        package = install.parent
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target.parents[1] / libraries.name)
        partial = target.with_name("partial")
        shutil.copytree(install, partial, ignore=shutil.ignore_patterns("include", "*.a"))
        partial.rename(target)
    return target / binaries.name
