"""The record of promotions and rollbacks, and with it the version to serve.

The newest row says what is served: every worker and replica follows it. Rows are only ever added,
each with a hash over itself and the hash before it, so that a changed or removed row shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, Row, insert, select

from student_success.core.clock import iso, now_us
from student_success.core.errors import BusyError, ConflictError
from student_success.domain.decision import SEED
from student_success.storage.engine import lock_table, reading, upsert, writing
from student_success.storage.tables import alias_state, deployments, deployments_head

Action = Literal["promote", "rollback", "adopt"]
_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Deployment:
    """One change of the served version.

    Attributes
    ----------
    action
        ``"adopt"`` is an alias moved by hand in MLflow that was verified and taken over.
    from_version, to_version
        ``"seed"`` or an MLflow version number as text.
    fingerprint
        SHA-256 of the manifest that `to_version` must have.
    """

    id: int
    created_us: int
    action: Action
    actor: str
    reason: str | None
    from_version: str | None
    to_version: str
    fingerprint: str
    evidence: dict[str, Any]
    hash: str

    def public(self) -> dict[str, Any]:
        """Return the row as `GET /deployments` shows it."""
        return {
            "id": self.id,
            "at": iso(self.created_us),
            "action": self.action,
            "actor": self.actor,
            "reason": self.reason,
            "from_version": self.from_version,
            "to_version": self.to_version,
            "evidence": self.evidence,
            "hash": self.hash,
        }


def version_of(deployment: Deployment | None) -> str:
    """Return the version a deployment serves; the seed model before the first deployment."""
    return SEED if deployment is None else deployment.to_version


class AliasState(NamedTuple):
    """Where MLflow's alias pointed when last set or accepted, and where it was to be moved."""

    version: str | None = None
    moving_to: str | None = None


class Deployments:
    """Read and extend the audit log of deployments."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def current(self) -> Deployment | None:
        """Return the newest deployment, or None before the first."""
        with reading(self.engine) as connection:
            return _newest(connection)

    def newest_id(self) -> int:
        """Return the id of the newest deployment, 0 before the first; cheap enough to poll."""
        with reading(self.engine) as connection:
            found = connection.execute(
                select(deployments.c.id).order_by(deployments.c.id.desc()).limit(1)
            ).scalar()
            return found or 0

    def hash_of(self, deployment_id: int) -> str | None:
        """Return the hash of a deployment, or None if there is no such row."""
        query = select(deployments.c.hash).where(deployments.c.id == deployment_id)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar()

    def page(self, limit: int = 1000) -> list[Deployment]:
        """Return the newest deployments, newest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(deployments).order_by(deployments.c.id.desc()).limit(limit)
            ).all()
        return [_deployment(row) for row in rows]

    def hashes(self) -> dict[int, str]:
        """Return the hash of every row by id."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(deployments.c.id, deployments.c.hash)).all()
        return {row.id: row.hash for row in rows}

    def record(
        self,
        action: Action,
        *,
        to_version: str,
        fingerprint: str,
        actor: str,
        reason: str | None,
        evidence: Mapping[str, Any],
        after: int | None = None,
        before_first: str | None = SEED,
    ) -> Deployment:
        """Add a deployment; from the commit on, every worker follows it.

        The caller holds the deployment lock.

        Parameters
        ----------
        after
            The newest row's id when it was decided, 0 for none, to be sure that nothing came in
            between: a lock can be lost with the server that keeps it. None to do without.
        before_first
            What was served before the first deployment; None if there was no model.

        Raises
        ------
        BusyError
            If another deployment came in between.
        """
        with writing(self.engine) as connection:
            lock_table(connection, deployments)
            before = _newest(connection)
            if after is not None and after != (before.id if before else 0):
                raise BusyError("Another deployment came in between.")
            values: dict[str, Any] = {
                # A clock set back must not make the record look out of order.
                "created_us": max(now_us(), before.created_us + 1 if before else 0),
                "action": action,
                "actor": actor,
                "reason": reason,
                "from_version": before.to_version if before else before_first,
                "to_version": to_version,
                "fingerprint": fingerprint,
                "evidence_json": json.dumps(evidence, sort_keys=True, allow_nan=False),
            }
            values["hash"] = _chain(before.hash if before else _GENESIS, values)
            connection.execute(insert(deployments).values(values))
            connection.execute(upsert(connection, deployments_head, {"id": 1}, hash=values["hash"]))
            newest = _newest(connection)
            assert newest is not None
            return newest

    def rollback_target(self) -> Deployment | None:
        """Return the deployment to go back to; None stands for the seed model.

        Rollbacks undo promotions in turn: after two promotions, two rollbacks lead back to the
        start, and a rollback is never undone by a second one.

        Raises
        ------
        ConflictError
            If nothing is left to roll back.
        """
        served: list[Deployment] = []
        for row in reversed(self.page(limit=1_000_000)):
            if row.action == "rollback":
                if served:
                    served.pop()
            else:
                served.append(row)
        if not served:
            raise ConflictError("Nothing to roll back: the seed model is served.")
        return served[-2] if len(served) > 1 else None

    def verify(self) -> list[str]:
        """Check the chain of hashes; return what is wrong, in words, or nothing."""
        problems: list[str] = []
        hash_before, version_before, id_before = _GENESIS, SEED, 0
        with reading(self.engine) as connection:
            rows = connection.execute(select(deployments).order_by(deployments.c.id)).all()
            # None if the last deployment is older than the table of the newest hash.
            head = connection.execute(select(deployments_head.c.hash)).scalar()
        for row in rows:
            if row.id != id_before + 1 and self.engine.dialect.name == "sqlite":
                problems.append(f"between rows {id_before} and {row.id} a row is missing")
            if _chain(hash_before, dict(row._mapping)) != row.hash:
                problems.append(f"row {row.id} was changed, or the row before it was")
            # Before the first one, a school with its own profile had no model.
            if row.from_version != version_before and (id_before or row.from_version):
                problems.append(f"row {row.id} does not start from the version before it")
            hash_before, version_before, id_before = row.hash, row.to_version, row.id
        if head not in (None, hash_before):
            problems.append(f"after row {id_before} a row is missing")
        return problems

    def alias_state(self, name: str) -> AliasState:
        """Return what is known of MLflow's alias."""
        with reading(self.engine) as connection:
            row = connection.execute(
                select(alias_state.c.version, alias_state.c.moving_to).where(
                    alias_state.c.name == name
                )
            ).one_or_none()
        return AliasState() if row is None else AliasState(row.version, row.moving_to)

    def set_alias_version(self, name: str, version: str | None) -> None:
        """Record the version that MLflow's alias points to."""
        self._set_alias(name, version=version)

    def set_alias_moving_to(self, name: str, version: str | None) -> None:
        """Record where the service is about to move MLflow's alias."""
        self._set_alias(name, moving_to=version)

    def _set_alias(self, name: str, **values: str | None) -> None:
        with writing(self.engine) as connection:
            connection.execute(
                upsert(connection, alias_state, {"name": name}, updated_us=now_us(), **values)
            )


def _newest(connection: Connection) -> Deployment | None:
    row = connection.execute(
        select(deployments).order_by(deployments.c.id.desc()).limit(1)
    ).one_or_none()
    return None if row is None else _deployment(row)


def _deployment(row: Row[Any]) -> Deployment:
    values = dict(row._mapping)
    values["evidence"] = json.loads(values.pop("evidence_json"))
    return Deployment(**values)


_HASHED: Sequence[str] = (
    "created_us",
    "action",
    "actor",
    "reason",
    "from_version",
    "to_version",
    "fingerprint",
    "evidence_json",
)


def _chain(before: str, values: Mapping[str, Any]) -> str:
    content = json.dumps([before, *(values[name] for name in _HASHED)], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
