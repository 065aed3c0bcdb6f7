"""The service: POST /redeem with a JSON body, one transaction with SELECT ... FOR UPDATE for each.

Run by uvicorn, with PEER_POSTGRES_URL and PEER_POOL (connections of each process) in its environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import orjson
from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel, Field

URL_VARIABLE, POOL_VARIABLE = "PEER_POSTGRES_URL", "PEER_POOL"

_FIND = "SELECT answer FROM entry WHERE request_id = $1"
_LOCK = "SELECT balance, seq FROM account WHERE account_id = $1 FOR UPDATE"
_CHANGE = "UPDATE account SET balance = $2, seq = $3 WHERE account_id = $1"
_JOURNAL = (
    "INSERT INTO entry (account_id, seq, request_id, terminal_id, points, balance_after, answer)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"
)


class Redeem(BaseModel):
    """What a register asks; points are minor units."""

    request_id: UUID
    account_id: int
    terminal_id: int
    points: Annotated[int, Field(gt=0)]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    size = int(os.environ[POOL_VARIABLE])
    async with asyncpg.create_pool(os.environ[URL_VARIABLE], min_size=size, max_size=size) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


def _pool(request: Request) -> Any:
    return request.app.state.pool


@app.get("/ready")
async def ready() -> Response:
    """Answer once the pool is there."""
    return Response()


@app.post("/redeem")
async def redeem(asked: Redeem, pool: Annotated[Any, Depends(_pool)]) -> Response:
    """Spend points once for a request id; 409 when they are missing."""
    async with pool.acquire() as connection:
        try:
            async with connection.transaction():
                return await _redeem(connection, asked)
        except asyncpg.UniqueViolationError:
            # The same request came twice at the same time, and the other one was first.
            return _answer(await connection.fetchval(_FIND, asked.request_id))


async def _redeem(connection: Any, asked: Redeem) -> Response:
    told = await connection.fetchval(_FIND, asked.request_id)
    if told is not None:
        return _answer(told)
    account = await connection.fetchrow(_LOCK, asked.account_id)
    if account is None:
        return Response(status_code=404)
    balance, seq = account["balance"] - asked.points, account["seq"] + 1
    if balance < 0:
        return Response(status_code=409)
    answer = orjson.dumps({"approved": True, "points": asked.points, "balance": balance})
    await connection.execute(_CHANGE, asked.account_id, balance, seq)
    await connection.execute(
        _JOURNAL, asked.account_id, seq, asked.request_id, asked.terminal_id, asked.points, balance, answer
    )
    return _answer(answer)


def _answer(body: bytes) -> Response:
    return Response(body, media_type="application/json")
