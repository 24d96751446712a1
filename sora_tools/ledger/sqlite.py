"""The ledger in SQLite: in one file for every thread, event loop and process of this machine, or in memory.

Rules. The rollback journal with ``synchronous=EXTRA``: what is written stays written when the power fails. A claim is
an open lock on a small file of its own, which the kernel frees when its holder dies; claim files are taken and
removed within a transaction only, so that nobody ever locks a file that is not there any more. A file that is not
ours, or newer than we are, is left alone.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigurationError
from ..limits import Check, Spent
from ..prices import Price, added
from .submissions import Accepted, Begun, Claim, Elsewhere, New, Outcome, Repeated, State, Submission, Taken, Unsure

MIGRATIONS: Final = (
    """
    create table submission (
        key text primary key,
        gateway text not null,
        account text not null,
        dialect text not null,
        body text not null,
        digest text not null,
        thread text,
        state text not null check (state in ('intended', 'accepted', 'refused', 'unsure')),
        task_id text,
        adopted integer not null default 0,
        reuses text,
        intended_at real not null,
        sent_at real not null,
        outcome text,
        files text not null default '[]'
    );
    create unique index submission_task on submission (gateway, task_id);
    create index submission_thread on submission (thread, digest);
    """,
    "alter table submission add column seen text;",
    """
    alter table submission add column price text;
    alter table submission add column currency text;
    create index submission_sent on submission (gateway, account, sent_at) where price is not null;
    create index submission_paid on submission (gateway, account, thread, currency, price)
        where price is not null and state <> 'refused' and reuses is null;
    """,
)
"""One step a version: ``PRAGMA user_version`` tells how many a file has been through."""

_APPLICATION: Final = 0x536F7261
_PATIENCE: Final = 10.0
"""Seconds to wait for another process's transaction."""

_DAY: Final = 86_400.0

_NETWORK: Final = re.compile(
    "9p|afs|beegfs|ceph|cifs|drvfs|fuse[.](ceph|gcsfuse|glusterfs|rclone|s3fs|sshfs)|glusterfs|gpfs|lustre|ncpfs|nfs4?"
    "|orangefs|smb[23]|smbfs"
)
"""File systems whose locks do not reach every machine that sees the file."""

_ELSEWHERE: Final = (
    "Set SORA_LEDGER (or ledger=) to a file on a local disk that can be written; it will not know what this one knows."
)

_MEANWHILE: Final = "Whether anything was sent is not changed by that. See what else uses the ledger."

_ROW: Final = """
    select s.key, s.gateway, s.account, s.dialect, s.body, s.digest, s.thread, coalesce(r.state, s.state) as state,
        coalesce(r.task_id, s.task_id) as task_id, s.intended_at, s.sent_at, coalesce(r.outcome, s.outcome) as outcome,
        coalesce(r.files, s.files) as files, s.reuses, s.adopted, coalesce(r.seen, s.seen) as seen,
        s.price, s.currency
    from submission s left join submission r on r.key = s.reuses
"""
"""A submission that was given an earlier one's task shows what is known of that one."""

_NEWEST_FIRST: Final = " order by s.intended_at desc, s.rowid desc"


class _SQLLedger(ABC):
    """What both ledgers are: the same statements, over a file or over memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        _ledgers.add(self)

    def __del__(self) -> None:
        # A ledger has no last user who could close it, and Python 3.13 complains of connections left open.
        if (db := getattr(self, "_db", None)) is not None:
            db.close()

    def begin(self, submission: Submission, repeat: bool = False, check: Check | None = None) -> Begun:
        begun: Begun | None = None
        try:
            with self._turn() as db:
                begun = self._begun(db, submission, repeat=repeat, check=check)
        except BaseException:
            if isinstance(begun, New | Unsure):
                begun.claim.__exit__()
            raise
        return begun

    def _begun(self, db: sqlite3.Connection, submission: Submission, *, repeat: bool, check: Check | None) -> Begun:
        key = submission.key
        row = self._row(db, key)
        if row is not None and (row.state == "refused" or _is_lost_copy(row)):
            row = None
        if row is not None and (row.gateway, row.digest) != (submission.gateway, submission.digest):
            return Taken(row)
        if row is not None and row.task_id is not None:
            return Accepted(row, row.task_id)
        if row is not None and row.reuses is not None:
            earlier = self._row(db, row.reuses)
            assert earlier is not None
            return Repeated(earlier)
        if row is None and not repeat and (found := self._repeated(db, submission)) is not None:
            return Repeated(found)
        if (claim := self._claim(key)) is None:
            return Elsewhere()
        if row is not None:
            return Unsure(claim, row)
        try:
            intended = self._intend(db, submission)
            if check is not None:
                check(self._spent(db, intended))
            return New(claim, intended)
        except BaseException:
            self._discard(claim)
            raise

    def resume(self, key: str) -> Unsure | Accepted | Elsewhere | None:
        with self._turn() as db:
            row = self._row(db, key)
            if row is not None and row.reuses is not None:
                row = self._row(db, row.reuses)
            if row is not None and row.task_id is not None:
                return Accepted(row, row.task_id)
            if row is None or not row.unresolved:
                return None
            claim = self._claim(row.key)
            return Elsewhere() if claim is None else Unsure(claim, row)

    def send_again(
        self, claim: Claim, account: str, dialect: str, price: Price | None = None, check: Check | None = None
    ) -> None:
        with self._turn() as db:
            again = (
                "update submission set sent_at = ?, account = ?, dialect = ?, seen = null,"
                " price = coalesce(?, price), currency = coalesce(?, currency) where key = ?"
            )
            db.execute(again, (self._clock(), account, dialect, *_money(price), claim.key))
            if check is not None:
                check(self._spent(db, self._check_there(db, claim)))

    def settle(self, claim: Claim, state: State, task_id: str | None = None, price: Price | None = None) -> None:
        with self._turn() as db:
            self._check_there(db, claim)
            if task_id is None and not claim.held:
                return
            self._note(db, claim.key, state, task_id)
            if price is not None:
                db.execute("update submission set price = ?, currency = ? where key = ?", (*_money(price), claim.key))
            self._discard(claim)

    def follow(self, claim: Claim, task_id: str, seen: Mapping[str, Any]) -> None:
        with self._turn() as db:
            self._check_there(db, claim)
            self._note(db, claim.key, "accepted", task_id)
            db.execute("update submission set seen = ? where key = ?", (json.dumps(seen), claim.key))

    def under_way(self, key: str) -> bool:
        with self._turn():
            claim = self._claim(key)
            if claim is not None:
                self._discard(claim)
            return claim is None

    def _note(self, db: sqlite3.Connection, key: str, state: State, task_id: str | None) -> None:
        """Write down a fate; a task that another submission has is that one's, unless it had only adopted it."""
        reuses = None
        if task_id is not None:
            holder = db.execute(
                "select h.key, h.adopted from submission h join submission s on s.gateway = h.gateway"
                " where s.key = ? and h.task_id = ? and h.key <> s.key",
                (key, task_id),
            ).fetchone()
            if holder is not None and holder["adopted"]:  # a direct answer beats an adoption
                lost = (
                    "update submission set state = 'unsure', task_id = null, adopted = 0,"
                    " outcome = null, files = '[]' where key = ?"
                )
                db.execute(lost, (holder["key"],))
            elif holder is not None:  # the gateway itself took two creates for one
                reuses, task_id = holder["key"], None
                db.execute("update submission set reuses = ? where reuses = ?", (reuses, key))
        db.execute(
            "update submission set state = :state, task_id = :task_id, reuses = :reuses, adopted = 0 where key = :key"
            " and (:task_id is not null or :reuses is not null or (task_id is null and reuses is null))",
            {"state": state, "task_id": task_id, "reuses": reuses, "key": key},
        )

    def adopt(self, claim: Claim, task_ids: Sequence[str]) -> str | None:
        with self._turn() as db:
            row = self._check_there(db, claim)
            if row.task_id is not None:  # a direct answer came late: no adoption erases it
                self._discard(claim)
                return row.task_id
            for task_id in task_ids:
                taken = (
                    "select 1 from submission where task_id = ?"
                    " and gateway = (select gateway from submission where key = ?)"
                )
                if db.execute(taken, (task_id, claim.key)).fetchone() is None:
                    ours = "update submission set state = 'accepted', task_id = ?, adopted = 1 where key = ?"
                    db.execute(ours, (task_id, claim.key))
                    self._discard(claim)
                    return task_id
        return None

    def reuse(self, submission: Submission, earlier: str) -> bool:
        with self._turn() as db:
            row = self._row(db, submission.key)
            if row is not None and row.state != "refused" and not _is_lost_copy(row):
                return earlier in (row.key, row.reuses)
            self._intend(db, replace(submission, price=None))
            given = (
                "update submission set state = 'accepted',"
                " reuses = coalesce((select reuses from submission where key = :earlier), :earlier) where key = :key"
            )
            db.execute(given, {"earlier": earlier, "key": submission.key})
        return True

    def end(self, gateway: str, task_id: str, outcome: Outcome, files: Sequence[str] = ()) -> None:
        known = {"outcome": outcome, "files": json.dumps(files), "gateway": gateway, "task_id": task_id}
        with self._turn() as db:
            db.execute(
                "update submission set outcome = :outcome,"
                " files = case when :files = '[]' then files else :files end"
                " where gateway = :gateway and task_id = :task_id",
                known,
            )

    def find(self, key: str) -> Submission | None:
        with self._turn(reading=True) as db:
            return self._row(db, key)

    def named(self, gateway: str, name: str) -> Submission | None:
        with self._turn(reading=True) as db:
            either = (
                "where s.gateway = :gateway and s.task_id = :name or s.key = :name"
                " order by s.gateway = :gateway and s.task_id = :name desc"
            )
            return next(_submissions(db.execute(_ROW + either, {"gateway": gateway, "name": name})), None)

    def of_task(self, gateway: str, task_id: str) -> Submission | None:
        with self._turn(reading=True) as db:
            return next(
                _submissions(db.execute(_ROW + "where s.gateway = ? and s.task_id = ?", (gateway, task_id))), None
            )

    def of_thread(
        self, gateway: str, account: str, thread: str | None, limit: int, before: str | None = None
    ) -> list[Submission]:
        own = """
            where s.gateway = :gateway and s.account = :account and s.thread is :thread and s.reuses is null
            and (:before is null or (s.intended_at, s.rowid) < (
                select b.intended_at, b.rowid from submission b
                where b.gateway = :gateway and b.account = :account and b.thread is :thread and b.reuses is null
                and :before in (b.key, b.task_id)
            ))
        """
        with self._turn(reading=True) as db:
            page = _ROW + own + _NEWEST_FIRST + " limit :limit"
            asked = {"gateway": gateway, "account": account, "thread": thread, "before": before, "limit": limit}
            return list(_submissions(db.execute(page, asked)))

    def submissions(self) -> list[Submission]:
        with self._turn(reading=True) as db:
            return list(_submissions(db.execute(_ROW + _NEWEST_FIRST)))

    def forget(self, key: str) -> bool:
        with self._turn() as db:
            claim = self._claim(key)
            if claim is None:
                return False
            gone = db.execute("delete from submission where ? in (key, reuses)", (key,)).rowcount
            self._discard(claim)
            return gone > 0

    def _repeated(self, db: sqlite3.Connection, submission: Submission) -> Submission | None:
        """The newest of the conversation's own that asks for the very same and may still be under way."""
        if submission.thread is None:
            return None
        same = (
            "where s.thread = ? and s.digest = ? and s.gateway = ? and s.account = ? and s.key <> ?"
            " and s.reuses is null"
            " and (s.state in ('intended', 'unsure') or (s.state = 'accepted' and s.outcome is null))"
            # what is unresolved may have been paid for: it is asked about first
            " order by s.state = 'accepted', s.intended_at desc, s.rowid desc"
        )
        mine = (submission.thread, submission.digest, submission.gateway, submission.account, submission.key)
        return next(_submissions(db.execute(_ROW + same, mine)), None)

    def _intend(self, db: sqlite3.Connection, submission: Submission) -> Submission:
        now = self._clock()
        db.execute(
            "insert or replace into submission"
            " (key, gateway, account, dialect, body, digest, thread, state, intended_at, sent_at, price, currency)"
            " values (?, ?, ?, ?, ?, ?, ?, 'intended', ?, ?, ?, ?)",
            (
                submission.key,
                submission.gateway,
                submission.account,
                submission.dialect,
                json.dumps(submission.body),
                submission.digest,
                submission.thread,
                now,
                now,
                *_money(submission.price),
            ),
        )
        row = self._row(db, submission.key)
        assert row is not None
        return row

    def _spent(self, db: sqlite3.Connection, row: Submission) -> Spent:
        """What is spent in this one's currency with its account at its gateway, this one included."""
        if row.price is None:
            return Spent(Decimal(0), Decimal(0))
        paid = (
            "select price, count(*) from submission where gateway = ? and account = ? and currency = ?"
            " and price is not null and state <> 'refused' and reuses is null and {} group by price"
        )
        whose = (row.gateway, row.account, row.price.currency)
        sums = (
            added((Decimal(price), times) for price, times in db.execute(paid.format(which), (*whose, value)))
            for which, value in (("thread is ?", row.thread), ("sent_at > ?", self._clock() - _DAY))
        )
        return Spent(*sums)

    def _row(self, db: sqlite3.Connection, key: str) -> Submission | None:
        return next(_submissions(db.execute(_ROW + "where s.key = ?", (key,))), None)

    def _check_there(self, db: sqlite3.Connection, claim: Claim) -> Submission:
        """The claim's row. Raise where it was taken out meanwhile: what came of it would be written down nowhere."""
        row = self._row(db, claim.key)
        if row is None:
            raise ConfigurationError(f"The ledger has lost {claim.key} while it was being sent.", hint=_MEANWHILE)
        return row

    @contextmanager
    def _turn(self, *, reading: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction, during which nobody else writes; or, for reading, one statement."""
        lock = self._lock
        if not lock.acquire(timeout=_PATIENCE):
            raise ConfigurationError(f"{self!r} was busy for {_PATIENCE:g} s.", hint=_MEANWHILE)
        try:
            with self._explained():
                if self._db is None:
                    self._db = self._open()
                db = self._db
                if reading:  # one statement, which is a whole by itself
                    yield db
                    return
                db.execute("begin immediate")
                try:
                    yield db
                    db.execute("commit")
                except BaseException:
                    _roll_back(db)
                    raise
        finally:
            lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Our error for SQLite's, the file system's, and those of texts that no database can hold."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(f"{self!r} cannot be used: {said}.", hint=_ELSEWHERE) from error

    @abstractmethod
    def _open(self) -> sqlite3.Connection:
        """The connection, its tables made."""

    @abstractmethod
    def _claim(self, key: str) -> Claim | None:
        """The claim on a key; None where somebody holds it. Within a transaction only."""

    def _discard(self, claim: Claim) -> None:
        """Give a claim back for good. Within a transaction only."""
        claim.__exit__()

    def _forked(self) -> None:
        """A child of this process begins: whoever held the lock is not here, and the connection is the parent's."""
        self._lock = threading.RLock()


class SQLiteLedger(_SQLLedger):
    """A ledger in one file, for every thread, event loop and process of this machine.

    Args:
        path: The file. Nothing is opened before its first use; it is made, readable by its owner alone, where there is
            none. Claims are small files beside it.
        keep_days: Days after which what was refused or seen to have ended is taken out, counted from when it was first
            to be sent. What may still be paid for and unseen stays, and what the last 24 hours cost.
        clock: Seconds since the epoch.

    Every method raises:
        ConfigurationError: The file cannot be used: not writable, not a ledger, of a newer version, or on a network
            file system, whose locks cannot be trusted. It is never overwritten.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, keep_days: float = 400.0, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self.path = Path(os.path.realpath(path))  # one file has one name, for its claims lie beside it
        self._keep = keep_days * 86_400

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self.path)!r})"

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> sqlite3.Connection:
        if (kind := network_file_system(self.path)) is not None:
            raise ConfigurationError(f"The ledger {self.path} is on a network file system ({kind}).", hint=_ELSEWHERE)
        with _opening:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Only a file that is not there may be opened here: closing one that SQLite has open drops its locks.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            db = _connect(self.path, _PATIENCE)
        try:
            db.execute("pragma synchronous = extra")
            db.execute("begin immediate")
            self._migrate(db)
            self._prune(db)
            db.execute("commit")
        except BaseException:
            db.close()
            raise
        return db

    def _migrate(self, db: sqlite3.Connection) -> None:
        (application,), (version,) = (
            db.execute(f"pragma {name}").fetchone() for name in ("application_id", "user_version")
        )
        is_empty = db.execute("select 1 from sqlite_master").fetchone() is None
        if application != _APPLICATION and not is_empty:
            raise ConfigurationError(f"{self.path} is another program's database.", hint=_ELSEWHERE)
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"The ledger {self.path} was written by a newer sora-tools (version {version} of the file, "
                f"{len(MIGRATIONS)} is known here).",
                hint="Update sora-tools.",
            )
        ((found,),) = db.execute("pragma integrity_check(1)").fetchall()
        if found != "ok":  # a damaged index would let a key that is known pass for a new one
            raise ConfigurationError(f"The ledger {self.path} is damaged: {found}.", hint=_ELSEWHERE)
        if version < len(MIGRATIONS):  # or every opening would write
            migrate(db, version)

    def _prune(self, db: sqlite3.Connection) -> None:
        now = self._clock()
        db.execute(
            "delete from submission where intended_at < ? and sent_at <= ?"
            " and (state = 'refused' or outcome is not null or reuses is not null)",
            (now - self._keep, now - _DAY),
        )

    def _claim(self, key: str) -> Claim | None:
        lock = _connect(self._claim_path(key), 0.0)
        try:
            lock.execute("begin exclusive")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                return None
            raise
        return Claim(key, lock.close)

    def _discard(self, claim: Claim) -> None:
        if claim.held:  # or else the file may be another one's by now
            claim.__exit__()
            self._claim_path(claim.key).unlink(missing_ok=True)

    def _claim_path(self, key: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{sha256(key.encode()).hexdigest()[:24]}.claim")

    def _forked(self) -> None:
        super()._forked()
        # Never closed: SQLite must not be used with a connection that crossed a fork, not even to close it.
        self._before_fork, self._db = self._db, None


class MemoryLedger(_SQLLedger):
    """A ledger that lives as long as the process (``ledger="memory"``).

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._claimed: set[str] = set()

    def _open(self) -> sqlite3.Connection:
        db = _connect(":memory:", 0.0)
        migrate(db, 0)
        return db

    def _claim(self, key: str) -> Claim | None:
        if key in self._claimed:
            return None
        self._claimed.add(key)
        return Claim(key, lambda: self._claimed.discard(key))

    def _forked(self) -> None:
        super()._forked()
        # A child begins with nothing: the parent may have been in the middle of writing.
        self._before_fork, self._db = self._db, None
        self._claimed.clear()


class ForgetfulLedger(MemoryLedger):
    """No ledger: remembers a submission until its fate is known, or what a chat told of it (``ledger="off"``)."""

    def reuse(self, submission: Submission, earlier: str) -> bool:  # noqa: ARG002  # nothing is remembered of it
        return True

    def _claim(self, key: str) -> Claim | None:
        claim = super()._claim(key)
        return claim and Claim(key, lambda: self._forget(claim))

    def _forget(self, claim: Claim) -> None:
        with self._lock:
            claim.__exit__()
            if self._db is not None:
                # what is told of once has to be known for as long as somebody may ask
                settled = "delete from submission where key = ? and state in ('accepted', 'refused') and seen is null"
                self._db.execute(settled, (claim.key,))


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Take a database from this version to the newest, within the transaction that is open, if any."""
    for step in MIGRATIONS[version:]:
        for statement in filter(str.strip, step.split(";")):
            db.execute(statement)
    db.execute(f"pragma application_id = {_APPLICATION}")
    db.execute(f"pragma user_version = {len(MIGRATIONS)}")


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The name of the network file system a path is on, or None where there is none or nobody tells.

    Args:
        path: Need not exist yet.
        mounts: What ``/proc/self/mountinfo`` says (proc_pid_mountinfo(5)); read from there where not given.
    """
    where = os.path.realpath(path)
    if where.startswith(("\\\\", "//")):
        return "a network share"
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        except OSError:
            return None
    longest, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4 and after:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            if os.path.commonpath((point, where)) == point and len(point) >= len(longest):
                longest, kind = point, after.split(" ")[0]
    return kind if _NETWORK.fullmatch(kind) else None


def _connect(path: str | Path, patience: float) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    return db


def _roll_back(db: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # some errors have rolled back already
        db.execute("rollback")


def _submissions(rows: sqlite3.Cursor) -> Iterator[Submission]:
    for row in rows.fetchall():  # or its lock would last as long as the cursor
        told: dict[str, Any] = dict(row)
        told["body"], told["files"] = json.loads(told["body"]), tuple(json.loads(told["files"]))
        told["seen"] = json.loads(told["seen"]) if told["seen"] else None
        price, currency = told.pop("price"), told.pop("currency")
        told["price"] = None if price is None else Price(Decimal(price), currency)
        yield Submission(**{**told, "adopted": bool(told["adopted"])})


def _money(price: Price | None) -> tuple[str | None, str | None]:
    """A price as its two columns have it: the amount in decimal notation, never as a float."""
    return (None, None) if price is None else (f"{price.amount:f}", price.currency)


def _is_lost_copy(row: Submission) -> bool:
    """Whether it was given the task of a submission that has been forgotten since."""
    return row.reuses is not None and row.task_id is None and row.state == "accepted"


_opening = threading.RLock()
_ledgers: weakref.WeakSet[_SQLLedger] = weakref.WeakSet()


_held_for_fork: list[threading.RLock] = []


def _before_fork() -> None:
    """Let nobody be inside SQLite while this process forks: its own locks would stay held in the child."""
    locks = (_opening, *(ledger._lock for ledger in list(_ledgers)))  # noqa: SLF001  # their own module
    _held_for_fork.extend(lock for lock in locks if lock.acquire(timeout=_PATIENCE))


def _after_fork() -> None:
    while _held_for_fork:
        _held_for_fork.pop().release()


def _forked() -> None:
    global _opening  # noqa: PLW0603  # a thread that is not here may wait for it
    _held_for_fork.clear()
    _opening = threading.RLock()
    for ledger in _ledgers:
        ledger._forked()  # noqa: SLF001  # their own module


if sys.platform != "win32":
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forked)
