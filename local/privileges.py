"""The user that Postgres runs as, and its folders: it refuses to run as root, so root has to become another user.

No folder is ever opened to others for that. In this order, the first way that works:

- *as you are*, for an ordinary user;
- *another user*: the uid of `nobody`, if it can reach the binaries and the data; only the data folder changes owner;
- *a user namespace* with one uid, in which root's own number is called `nobody`: works below folders that are closed
  to everybody else, but is refused in many containers;
- *a private folder*: `nobody` again, with the data (and the binaries, if need be) in /var/lib/viral-…, and the data
  folder under home a link to it.
"""

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

from local.spawn import EmbeddedError, server_environment, spawn

CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True)
class User:
    uid: int
    gid: int


@dataclass(frozen=True)
class RunAs:
    """`uid` and `gid` own the data folder, as seen from outside; `data` has no symbolic links and may not exist yet;
    `major` is the version of Postgres."""

    how: str
    uid: int
    gid: int
    switch_user: Callable[[], None] | None
    binaries: Path
    data: Path
    major: int


def choose_user(link: Path, binaries: Path, *, private_root: Path = Path("/var/lib"), only: str | None = None) -> RunAs:
    """Find a way to run the Postgres of `binaries` on the data folder `link`, and give the data to that user.

    `only` picks one way by name instead of the first that works.
    """
    if os.geteuid() == 0:
        refuse_foreign_data(link)
    refused = []
    for how, attempt in ways(link, binaries, private_root):
        if only in {None, how}:
            try:
                run_as = attempt()
                own_data(run_as)
            except subprocess.SubprocessError:  # of the child before it started a program; it cannot say more
                refused.append(f"{how}: not permitted")
            except (OSError, EmbeddedError) as error:
                refused.append(f"{how}: {error}")
            else:
                return run_as
    advice = "run as an ordinary user, or set DATABASE_URL" if os.geteuid() == 0 else "set DATABASE_URL instead"
    raise EmbeddedError(f"Postgres cannot run here ({'; '.join(refused)}): {advice}.")


def ways(link: Path, binaries: Path, private_root: Path) -> Iterator[tuple[str, Callable[[], RunAs]]]:
    me, other, data = User(os.geteuid(), os.getegid()), nobody(), link.resolve()

    def way(how: str, user: User, switch_user: Callable[[], None] | None) -> tuple[str, Callable[[], RunAs]]:
        return how, lambda: probe(how, user, switch_user, binaries, data)

    namespace = way("a user namespace", me, lambda: enter_user_namespace(me, other))
    if me.uid == 0:
        yield way("another user", other, lambda: drop_privileges(other))
        if sys.platform == "linux":
            yield namespace
        yield "a private folder", lambda: use_private_folder(link, binaries, private_root, other)
    else:
        if sys.platform == "linux" and not is_named(me.uid):  # initdb wants a name for the uid it runs as
            yield namespace
        yield way("as you are", me, None)


def nobody() -> User:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return User(65534, 65534)
    return User(entry.pw_uid, entry.pw_gid)


def is_named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def drop_privileges(user: User) -> None:
    os.setgroups([])
    os.setgid(user.gid)
    os.setuid(user.uid)


def enter_user_namespace(outside: User, inside: User) -> None:
    """Keep being `outside`, but be called `inside`, without any of root's powers once a program is started."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_bytes(b"deny")
    Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (inside.uid, outside.uid))
    Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (inside.gid, outside.gid))


def probe(how: str, user: User, switch_user: Callable[[], None] | None, binaries: Path, data: Path) -> RunAs:
    """Try it: become that user, look at where the data is, start a program of Postgres (which tells its version)."""

    def enter() -> None:
        if switch_user is not None:
            switch_user()
        with contextlib.suppress(FileNotFoundError):  # may be missing, not unreachable
            os.stat(data)

    program = spawn(
        [binaries / "initdb", "--version"],
        env=server_environment(),
        death_signal=signal.SIGKILL,
        stdout=subprocess.PIPE,
        cwd=Path("/"),
        switch_user=enter,
    )
    output = program.communicate(timeout=20)[0].decode(errors="replace").strip()
    version = re.search(r"\(PostgreSQL\)\D*(\d+)", output)
    if program.returncode != 0 or version is None:
        raise EmbeddedError(f"{binaries / 'initdb'} does not run ({output or program.returncode})")
    return RunAs(how, user.uid, user.gid, switch_user, binaries, data, int(version[1]))


def refuse_foreign_data(link: Path) -> None:
    """Root must not take an ordinary user's data folder away from them."""
    if link.exists() and (owner := link.stat().st_uid) not in {0, nobody().uid}:
        name = pwd.getpwuid(owner).pw_name if is_named(owner) else f"uid {owner}"
        raise EmbeddedError(f"{link} belongs to {name}: run as {name}, or choose another folder with --home.")


def own_data(run_as: RunAs) -> None:
    """Give the data folder, if there is one already, to the user who runs the server on it."""
    if run_as.data.exists() and run_as.data.stat().st_uid != run_as.uid:
        for folder, _, files in os.walk(run_as.data, topdown=False):
            for name in (*files, ""):
                os.chown(Path(folder, name), run_as.uid, run_as.gid, follow_symlinks=False)


def use_private_folder(link: Path, binaries: Path, root: Path, user: User) -> RunAs:
    """Move the data folder below `root`, leave a link, and copy the binaries there if they cannot be reached."""

    def probe_with(reachable: Path) -> RunAs:
        return probe("a private folder", user, lambda: drop_privileges(user), reachable, data)

    folder = root.resolve() / f"viral-{hashlib.sha256(str(link.absolute()).encode()).hexdigest()[:12]}"
    is_new = not folder.exists()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to another user")
    folder.chmod(0o711)  # whatever the umask said; this folder is ours
    data = folder / "postgres"
    try:
        try:
            run_as = probe_with(binaries)
        except (OSError, EmbeddedError):
            run_as = probe_with(copied(binaries, folder))
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
    return run_as


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
