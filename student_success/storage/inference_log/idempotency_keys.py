"""Idempotency keys: a request repeated within a day gets the first response and adds no row."""

from __future__ import annotations

import zlib

from sqlalchemy import Connection, select

from student_success.core.clock import cautious_now_us, now_us
from student_success.core.errors import ConflictError
from student_success.domain.idempotency import KEY_LIFETIME_US, IdempotencyKey
from student_success.storage.engine import insert_on_conflict
from student_success.storage.tables import idempotency_keys


def claim(connection: Connection, key: IdempotencyKey) -> bytes | ConflictError | None:
    """Claim a key inside the transaction that commits its request.

    Returns
    -------
    bytes, ConflictError or None
        None if the key is claimed now; else the response of the earlier request, or the error to
        raise if that one had another body.
    """
    values = {
        "body_hash": key.body_hash,
        "session_id": key.session_id,
        "answer": zlib.compress(key.answer),
        "created_us": now_us(),
    }
    insert = (
        insert_on_conflict(connection, idempotency_keys)
        .values(key_hash=key.key_hash, **values)
        .on_conflict_do_update(
            index_elements=[idempotency_keys.c.key_hash],
            set_=values,
            where=idempotency_keys.c.created_us < cautious_now_us() - KEY_LIFETIME_US,
        )
        # Not every driver reports the number of inserted rows.
        .returning(idempotency_keys.c.key_hash)
    )
    while connection.execute(insert).first() is None:
        earlier = connection.execute(
            select(idempotency_keys.c.body_hash, idempotency_keys.c.answer).where(
                idempotency_keys.c.key_hash == key.key_hash
            )
        ).one_or_none()
        if earlier is None:
            continue  # Its session was erased between the two statements.
        if earlier.body_hash == key.body_hash:
            return zlib.decompress(earlier.answer)
        return ConflictError(
            "This Idempotency-Key was used with another request within the last day."
        )
    return None
