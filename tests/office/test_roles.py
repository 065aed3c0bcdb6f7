"""Every endpoint and every page x everybody who may call it: a route that is not in the table fails.

An `x` stands where a call gets past authentication and permission; what comes of it then (200, 404, 409, 422) is the
business of other tests.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from admin_api.app import create_app
from admin_api.office import OfficeLimits
from admin_api.security.permissions import Role
from admin_api.security.sessions import csrf_of, session_of
from ledger.registry import users
from tests.rigs.office_rig import EVERYTHING, OfficeRig
from tests.rigs.people import invited, member_token, session_cookie

CALLERS = ("nobody", "owner", "operator", "marketer", "auditor", "partner", "program", "member")
# A program has a token with all permissions; the others but the member have sessions.
TABLE = """
                                                                         nobody
                                                                           owner
                                                                             operator
                                                                               marketer
                                                                                 auditor
                                                                                   partner
                                                                                     program
                                                                                       member
GET    /health/live                                                      x x x x x x x x
GET    /health/ready                                                     x x x x x x x x
GET    /metrics                                                          x x x x x x x x
GET    /v1/openapi.json                                                  x x x x x x x x
POST   /v1/sign-in                                                       x x x x x x x x
POST   /v1/sign-out                                                      . x x x x x . .
GET    /v1/invitations/{token}                                           x x x x x x x x
POST   /v1/invitations/{token}                                           x x x x x x x x
GET    /v1/me/session                                                    . x x x x x . .
GET    /v1/me/sessions                                                   . x x x x x . .
DELETE /v1/me/sessions/{session_id}                                      . x x x x x . .
GET    /v1/users                                                         . x . . x . x .
POST   /v1/users                                                         . x . . . . x .
GET    /v1/users/{user_id}                                               . x . . x . x .
PATCH  /v1/users/{user_id}                                               . x . . . . x .
POST   /v1/users/{user_id}/link                                          . x . . . . x .
GET    /v1/tokens                                                        . x . . . . x .
POST   /v1/tokens                                                        . x . . . . x .
GET    /v1/tokens/{token_id}                                             . x . . . . x .
DELETE /v1/tokens/{token_id}                                             . x . . . . x .
POST   /v1/member-tokens                                                 . x . . . . x .
DELETE /v1/member-tokens/{account_id}                                    . x . . . . x .
GET    /v1/audit                                                         . x . . x . x .
GET    /v1/audit/export.csv                                              . x . . x . x .
GET    /v1/partners                                                      . x x x x x x .
POST   /v1/partners                                                      . x . . . . x .
POST   /v1/partners/onboard                                              . x . . . . x .
GET    /v1/partners/{partner_id}                                         . x x x x x x .
PATCH  /v1/partners/{partner_id}                                         . x . . . . x .
GET    /v1/networks                                                      . x x x x x x .
POST   /v1/networks                                                      . x . . . . x .
GET    /v1/networks/{network_id}                                         . x x x x x x .
PATCH  /v1/networks/{network_id}                                         . x . . . . x .
GET    /v1/stores                                                        . x x x x x x .
POST   /v1/stores                                                        . x . . . . x .
GET    /v1/stores/{store_id}                                             . x x x x x x .
PATCH  /v1/stores/{store_id}                                             . x . . . . x .
POST   /v1/stores/{store_id}/terminals/suspend                           . x x . . x x .
POST   /v1/stores/{store_id}/terminals/resume                            . x x . . x x .
POST   /v1/stores/{store_id}/terminals/rotate                            . x x . . x x .
GET    /v1/terminals                                                     . x x x x x x .
POST   /v1/terminals                                                     . x x . . x x .
GET    /v1/terminals/operations                                          . x x x x x x .
GET    /v1/terminals/{terminal_id}                                       . x x x x x x .
PATCH  /v1/terminals/{terminal_id}                                       . x x . . x x .
POST   /v1/terminals/{terminal_id}/suspend                               . x x . . x x .
POST   /v1/terminals/{terminal_id}/resume                                . x x . . x x .
POST   /v1/terminals/{terminal_id}/rotate                                . x x . . x x .
POST   /v1/terminals/{terminal_id}/revoke                                . x x . . x x .
GET    /v1/relays                                                        . x x x x x x .
POST   /v1/relays                                                        . x x . . x x .
GET    /v1/relays/{relay_id}                                             . x x x x x x .
PATCH  /v1/relays/{relay_id}                                             . x x . . x x .
POST   /v1/relays/{relay_id}/rotate                                      . x x . . x x .
GET    /v1/conflicts                                                     . x x x x x x .
GET    /v1/conflicts/{conflict_id}                                       . x x x x x x .
POST   /v1/conflicts/{conflict_id}/settle                                . x x . . . x .
GET    /v1/networks/{network_id}/rules                                   . x x x x x x .
POST   /v1/networks/{network_id}/rules                                   . x . x . . x .
POST   /v1/networks/{network_id}/rules/preview                           . x x x x x x .
GET    /v1/networks/{network_id}/rules/versions                          . x x x x x x .
GET    /v1/networks/{network_id}/rules/versions/{version}                . x x x x x x .
POST   /v1/networks/{network_id}/rules/versions/{version}/withdraw       . x . x . . x .
POST   /v1/networks/{network_id}/rules/versions/{version}/rollback       . x . x . . x .
GET    /v1/programme/time-zone                                           . x x x x x x .
PUT    /v1/programme/time-zone                                           . x . . . . x .
POST   /v1/members                                                       . x x . . . x .
POST   /v1/members/search                                                . x x . x . x .
GET    /v1/members/{account_id}                                          . x x . x . x .
PATCH  /v1/members/{account_id}                                          . x x . . . x .
POST   /v1/members/{account_id}/phone-card                               . x x . . . x .
POST   /v1/members/{account_id}/erase                                    . x . . . . x .
POST   /v1/cards                                                         . x x . . . x .
POST   /v1/cards/find                                                    . x x . x . x .
GET    /v1/cards/{card}                                                  . x x . x . x .
POST   /v1/cards/{card}/activate                                         . x x . . . x .
POST   /v1/cards/{card}/block                                            . x x . . . x .
POST   /v1/cards/{card}/unblock                                          . x x . . . x .
POST   /v1/cards/{card}/replace                                          . x x . . . x .
POST   /v1/cards/{card}/unlink                                           . x x . . . x .
GET    /v1/card-batches                                                  . x x . x . x .
POST   /v1/card-batches                                                  . x x . . . x .
GET    /v1/card-batches/{batch_id}                                       . x x . x . x .
GET    /v1/card-batches/{batch_id}/numbers                               . x x . . . x .
GET    /v1/accounts/{account_id}                                         . x x . x . x .
GET    /v1/accounts/{account_id}/cards                                   . x x . x . x .
GET    /v1/accounts/{account_id}/entries                                 . x x . x . x .
GET    /v1/accounts/{account_id}/entries.csv                             . x x . x . x .
POST   /v1/accounts/{account_id}/adjustments                             . x x . . . x .
POST   /v1/accounts/{account_id}/block                                   . x x . . . x .
POST   /v1/accounts/{account_id}/unblock                                 . x x . . . x .
POST   /v1/accounts/{account_id}/merge                                   . x x . . . x .
POST   /v1/accounts/{account_id}/holds/{hold_id}/release                 . x x . . . x .
GET    /v1/requests/{request_id}                                         . x x . x . x .
GET    /v1/adjustments                                                   . x x . x . x .
POST   /v1/adjustments/{adjustment_id}/approve                           . x x . . . x .
POST   /v1/adjustments/{adjustment_id}/decline                           . x x . . . x .
GET    /v1/me                                                            . . . . . . . x
PATCH  /v1/me                                                            . . . . . . . x
GET    /v1/me/balance                                                    . . . . . . . x
GET    /v1/me/expiring                                                   . . . . . . . x
GET    /v1/me/entries                                                    . . . . . . . x
GET    /v1/me/cards                                                      . . . . . . . x
POST   /v1/me/cards/{card}/block                                         . . . . . . . x
GET    /v1/figures                                                       . x x x x x x .
GET    /v1/figures/now                                                   . x x x x x x .
GET    /v1/operations/live                                               . x x . x . x .
GET    /v1/operations/events                                             . x x . x . x .
GET    /v1/operations/verify                                             . x x . x . x .
POST   /v1/operations/verify                                             . x x . . . x .
POST   /v1/operations/drain                                              . x x . . . x .
GET    /static                                                           x x x x x x x x
GET    /sign-in                                                          x x x x x x x x
POST   /sign-in                                                          x x x x x x x x
POST   /sign-out                                                         . x x x x x . .
GET    /invitation/{token}                                               x x x x x x x x
POST   /invitation/{token}                                               x x x x x x x x
POST   /preferences                                                      x x x x x x x x
GET    /{path:path}                                                      x x x x x x x x
GET    /                                                                 . x x x x x . .
GET    /dashboard/now                                                    . x x x x x . .
GET    /dashboard/plots                                                  . x x x x x . .
GET    /operations                                                       . x x . x . . .
GET    /operations/live                                                  . x x . x . . .
GET    /search                                                           . x x . x . . .
POST   /search                                                           . x x . x . . .
GET    /accounts/{account_id}                                            . x x . x . . .
GET    /accounts/{account_id}/history.csv                                . x x . x . . .
GET    /requests/{request_id}                                            . x x . x . . .
GET    /accounts/{account_id}/holds/{hold_id}/release                    . x x . . . . .
POST   /accounts/{account_id}/holds/{hold_id}/release                    . x x . . . . .
GET    /accounts/{account_id}/status/{verb}                              . x x . . . . .
POST   /accounts/{account_id}/status/{verb}                              . x x . . . . .
GET    /accounts/{account_id}/cards/new                                  . x x . . . . .
POST   /accounts/{account_id}/cards/new                                  . x x . . . . .
GET    /accounts/{account_id}/cards/{ref}/replace                        . x x . . . . .
POST   /accounts/{account_id}/cards/{ref}/replace                        . x x . . . . .
GET    /accounts/{account_id}/cards/{ref}/{verb}                         . x x . . . . .
POST   /accounts/{account_id}/cards/{ref}/{verb}                         . x x . . . . .
GET    /accounts/{account_id}/adjust                                     . x x . . . . .
POST   /accounts/{account_id}/adjust                                     . x x . . . . .
GET    /adjustments                                                      . x x . x . . .
GET    /adjustments/{adjustment_id}                                      . x x . x . . .
POST   /adjustments/{adjustment_id}/{verb}                               . x x . . . . .
GET    /accounts/{account_id}/merge                                      . x x . . . . .
POST   /accounts/{account_id}/merge                                      . x x . . . . .
GET    /accounts/{account_id}/merge/{source}                             . x x . . . . .
POST   /accounts/{account_id}/merge/{source}                             . x x . . . . .
GET    /members/new                                                      . x x . . . . .
POST   /members/new                                                      . x x . . . . .
GET    /members/{account_id}                                             . x x . x . . .
GET    /members/{account_id}/change                                      . x x . . . . .
POST   /members/{account_id}/change                                      . x x . . . . .
POST   /members/{account_id}/phone-card                                  . x x . . . . .
GET    /members/{account_id}/erase                                       . x . . . . . .
POST   /members/{account_id}/erase                                       . x . . . . . .
GET    /cards                                                            . x x . x . . .
GET    /cards/new                                                        . x x . . . . .
POST   /cards/new                                                        . x x . . . . .
GET    /cards/batches/new                                                . x x . . . . .
POST   /cards/batches/new                                                . x x . . . . .
GET    /cards/batches/{batch_id}                                         . x x . x . . .
GET    /cards/batches/{batch_id}/numbers.csv                             . x x . . . . .
GET    /coalition                                                        . x x x x x . .
GET    /coalition/partners/{partner_id}                                  . x x x x x . .
GET    /coalition/networks/{network_id}                                  . x x x x x . .
GET    /coalition/stores/{store_id}                                      . x x x x x . .
GET    /coalition/terminals/{terminal_id}                                . x x x x x . .
GET    /programme                                                        . x x x x x . .
GET    /programme/networks/{network_id}                                  . x x x x x . .
GET    /profile                                                          . x x x x x . .
POST   /profile/sessions/{session_id}/end                                . x x x x x . .
GET    /coalition/new                                                    . x . . . . . .
POST   /coalition/new                                                    . x . . . . . .
GET    /coalition/networks/new                                           . x . . . . . .
POST   /coalition/networks/new                                           . x . . . . . .
GET    /coalition/stores/new                                             . x . . . . . .
POST   /coalition/stores/new                                             . x . . . . . .
POST   /coalition/{kind}/{number}/rename                                 . x . . . . . .
GET    /coalition/{kind}/{number}/{verb}                                 . x . . . . . .
POST   /coalition/{kind}/{number}/{verb}                                 . x . . . . . .
GET    /programme/time-zone                                              . x . . . . . .
POST   /programme/time-zone                                              . x . . . . . .
GET    /users/new                                                        . x . . . . . .
POST   /users/new                                                        . x . . . . . .
POST   /users/{user_id}                                                  . x . . . . . .
GET    /users/{user_id}/{verb}                                           . x . . . . . .
POST   /users/{user_id}/{verb}                                           . x . . . . . .
GET    /tokens                                                           . x . . . . . .
GET    /tokens/new                                                       . x . . . . . .
POST   /tokens/new                                                       . x . . . . . .
GET    /tokens/{token_id}/revoke                                         . x . . . . . .
POST   /tokens/{token_id}/revoke                                         . x . . . . . .
GET    /coalition/terminals/new                                          . x x . . x . .
POST   /coalition/terminals/new                                          . x x . . x . .
GET    /coalition/terminals/{terminal_id}/{verb}                         . x x . . x . .
POST   /coalition/terminals/{terminal_id}/permit                         . x x . . x . .
POST   /coalition/terminals/{terminal_id}/{verb}                         . x x . . x . .
GET    /coalition/stores/{store_id}/rotate                               . x x . . x . .
POST   /coalition/stores/{store_id}/rotate                               . x x . . x . .
GET    /relays                                                           . x x x x x . .
GET    /relays/{relay_id}                                                . x x x x x . .
POST   /relays/{relay_id}/allowance                                      . x x . . x . .
GET    /relays/{relay_id}/rotate                                         . x x . . x . .
POST   /relays/{relay_id}/rotate                                         . x x . . x . .
GET    /coalition/stores/{store_id}/relay                                . x x . . x . .
POST   /coalition/stores/{store_id}/relay                                . x x . . x . .
GET    /conflicts                                                        . x x x x x . .
GET    /conflicts/{conflict_id}                                          . x x x x x . .
POST   /conflicts/{conflict_id}/settle                                   . x x . . . . .
GET    /programme/networks/{network_id}/change                           . x . x . . . .
POST   /programme/networks/{network_id}/change                           . x . x . . . .
GET    /programme/networks/{network_id}/versions/{version}/{verb}        . x . x . . . .
POST   /programme/networks/{network_id}/versions/{version}/rollback      . x . x . . . .
POST   /programme/networks/{network_id}/versions/{version}/withdraw      . x . x . . . .
GET    /audit                                                            . x . . x . . .
GET    /audit/export.csv                                                 . x . . x . . .
GET    /users                                                            . x . . x . . .
GET    /users/{user_id}                                                  . x . . x . . .
GET    /operations/verify                                                . x x . x . . .
POST   /operations/verify                                                . x x . . . . .
GET    /operations/drain                                                 . x x . . . . .
POST   /operations/drain                                                 . x x . . . . .
"""
ROW = re.compile(r"^([A-Z]+) +(/\S*) +([x.](?: [x.]){7})$", re.MULTILINE)
DUMMIES = {"session_id": "0" * 16, "request_id": "0" * 32, "hold_id": "0" * 32, "token": "twi_none", "card": "999999"}
NUMBER = "999999"
ANSWER_WAIT_S = 20


def table() -> dict[tuple[str, str], frozenset[str]]:
    rows: dict[tuple[str, str], frozenset[str]] = {}
    for method, path, cells in ROW.findall(TABLE):
        assert (method, path) not in rows, f"{method} {path} is there twice"
        rows[method, path] = frozenset(
            caller for caller, cell in zip(CALLERS, cells.split(), strict=True) if cell == "x"
        )
    return rows


def routes(found: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Walk through routers and mounted applications, however deep."""
    for route in found:
        if hasattr(route, "effective_candidates"):
            yield from routes(route.effective_candidates(), prefix)
        elif hasattr(getattr(route, "app", None), "routes") and not getattr(route, "methods", None):
            yield from routes(route.app.routes, prefix + route.path)
        else:
            for method in getattr(route, "methods", None) or {"GET"}:
                if method != "HEAD":
                    yield method, prefix + route.path


def address(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: DUMMIES.get(found[1], NUMBER), path)


async def status_of(rig: OfficeRig, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return the status and where it leads to; a stream is not waited for."""
    begun: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    body = [{"type": "http.request", "body": b"{}" if method != "GET" else b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await asyncio.sleep(3_600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and not begun.done():
            begun.set_result(message)

    all_headers = {"host": "office.test", "content-type": "application/json", **rig.key(), **headers}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        "client": ("10.0.0.1", 1), "server": ("office.test", 443),
    }  # fmt: skip
    call = asyncio.ensure_future(rig.app(scope, receive, send))
    try:
        await asyncio.wait({call, begun}, timeout=ANSWER_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        assert begun.done(), f"{method} {path} does not answer"
        # What is not a stream ends by itself, in order.
        await asyncio.wait({call}, timeout=0.5)
    finally:
        call.cancel()
        await asyncio.wait({call})
    location = dict(begun.result()["headers"]).get(b"location", b"").decode()
    return begun.result()["status"], location


async def headers_of(rig: OfficeRig, caller: str, user_id: int) -> dict[str, str]:
    if caller == "nobody":
        return {}
    if caller == "program":
        return {"authorization": f"Bearer {await rig.token(EVERYTHING)}"}
    if caller == "member":
        return {"authorization": f"Bearer {await member_token(rig)}"}
    secret = await session_cookie(rig, user_id)
    session = await session_of(rig.office, secret)
    assert session is not None
    return {"cookie": f"__Host-tillwire={secret}", "x-csrf-token": csrf_of(session)}


async def test_every_route_stands_in_the_table(rig: OfficeRig) -> None:
    found = list(routes(rig.app.routes))
    assert set(found) - table().keys() == set(), "add a row to the table, and think who may"
    assert table().keys() - set(found) == set(), "rows without a route"
    assert len(ROW.findall(TABLE)) == sum(line[:1].isupper() for line in TABLE.splitlines()), "a row is malformed"


@pytest.mark.parametrize("caller", CALLERS)
async def test_whoever_calls_gets_as_far_as_the_table_says(rig: OfficeRig, caller: str) -> None:
    many = {"requests_per_minute_max": 100_000, "sign_ins_per_minute_max": 100_000}
    rig.office = replace(rig.office, limits=replace(OfficeLimits(), sign_in_failed_s=0.0, **many))
    rig.app = create_app(rig.office)
    role = Role(caller) if caller in set(Role) else Role.OWNER
    person = await invited(rig.office, role)
    async with rig.registry.writing() as transaction:
        await users.set_credentials(transaction, person.user_id, password_hash="", totp_secret=b"", step=0)
    wrong = []
    for (method, path), may in table().items():
        headers = await headers_of(rig, caller, person.user_id)
        status, location = await status_of(rig, method, address(path), headers)
        # Nobody's wrong proofs are 401 as well, and prove nothing.
        entrance = path in {"/v1/sign-in", "/sign-in"}
        past = entrance or (status not in {401, 403} and not location.startswith("/sign-in"))
        if path == "/sign-out":
            # It leads everybody to the entrance, whoever was signed in and whoever was not.
            past = caller in may
        if past != (caller in may) or status >= 500:
            wrong.append(f"{method} {path}: {status} {location}")
    assert not wrong, "\n".join(wrong)
