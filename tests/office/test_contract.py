"""The OpenAPI document against the application: whatever fits the document, or does not, gets an answer that is in it.

The cases are drawn by schemathesis, the same every time. They are sent without a socket, on the event loop of the rig.
"""

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from admin_api.app import create_app
from admin_api.office import OfficeLimits
from admin_api.openapi import current, describe, text
from admin_api.security.permissions import Role
from tests.rigs.office_rig import CONSOLE_URL, EVERYTHING, OfficeRig
from tests.rigs.people import invited, member_token, signed_in

DOCUMENT = Path("docs/openapi.json")
EXAMPLES = {GenerationMode.POSITIVE: 10, GenerationMode.NEGATIVE: 6}
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
#: Streams have no end to be checked, and whoever signs out takes the session from the cases after that.
LEFT_OUT = {("get", "/v1/operations/events"), ("get", "/v1/figures/events"), ("post", "/v1/sign-out")}
#: Below /v1/me, where a member's token is sent, what belongs to people of the console.
OWN_SESSION = {"/v1/me/session", "/v1/me/sessions", "/v1/me/sessions/{session_id}"}
#: Signing in fails for want of right proofs, and a token with a member's permission is made by nobody.
ONLY_FOR_OTHERS = {"POST /v1/sign-in", "POST /v1/tokens"}
#: schemathesis draws these too; the caller's own are sent.
CREDENTIALS = {"authorization", "cookie"}


@pytest.fixture
async def client(rig: OfficeRig) -> Any:
    """Call as an owner's session and, at the same time, as a program that may do everything."""
    limits = replace(
        OfficeLimits(), sign_in_failed_s=0.0, sign_ins_per_minute_max=100_000, requests_per_minute_max=100_000,
        idempotency_wait_s=0.0,
    )  # fmt: skip
    rig.office = replace(rig.office, limits=limits)
    rig.app = create_app(rig.office)
    # What begins with 1 is there to be ended by a case; the caller is not.
    await rig.token(EVERYTHING)
    await invited(rig.office, Role.AUDITOR, email="eva@example.com")
    async with signed_in(rig) as (_, client):
        client.headers["authorization"] = f"Bearer {await rig.token(EVERYTHING)}"
        yield client


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
async def test_every_answer_is_in_the_document(rig: OfficeRig, client: httpx.AsyncClient, part: int) -> None:
    document = json.loads(text(describe(rig.app)))
    loop = asyncio.get_running_loop()

    member = f"Bearer {await member_token(rig)}"
    turned_away: set[str] = set()

    def send(case: schemathesis.Case) -> httpx.Response:
        # The known thing among many unknown ones: ids that exist begin with 1.
        chance = random.Random(repr(case.path_parameters))  # noqa: S311 - repeatable on purpose
        for name in case.path_parameters or {}:
            if name.endswith("_id") and chance.random() < 0.5:
                case.path_parameters[name] = 1
        prepared = requests.Request(**case.as_transport_kwargs(base_url=CONSOLE_URL)).prepare()
        headers = {name: value for name, value in prepared.headers.items() if name.lower() not in CREDENTIALS}
        if f"{case.operation.path}/".startswith("/v1/me/") and case.operation.path not in OWN_SESSION:
            headers["authorization"] = member
        request = client.build_request(
            prepared.method or "", prepared.url or "", content=prepared.body, headers=headers
        )
        answer = asyncio.run_coroutine_threadsafe(client.send(request), loop).result(30)
        if answer.status_code in {401, 403}:
            turned_away.add(case.operation.label)
        return answer

    def run_all() -> list[str]:
        failures = []
        schema = schemathesis.openapi.from_dict(document)
        for number, found in enumerate(schema.get_all_operations()):
            operation = found.ok()
            if number % 4 != part or (operation.method, operation.path) in LEFT_OUT:
                continue
            for mode, examples in EXAMPLES.items():
                try:
                    run_one(operation, mode, examples)
                except Unsatisfiable:
                    # Nothing can be wrong about a request that has no parameters.
                    continue
                except Exception as error:  # noqa: BLE001 - all failures are told at once
                    failures.append(f"{operation.method} {operation.path} ({mode.value}): {error}")
        return failures

    def run_one(operation: schemathesis.APIOperation, mode: GenerationMode, examples: int) -> None:
        @settings(
            max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck), print_blob=False,
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: schemathesis.Case) -> None:
            case.validate_response(send(case), checks=CHECKS)

        run()

    failures = await asyncio.to_thread(run_all)
    assert not failures, "\n\n".join(failures)
    assert turned_away <= ONLY_FOR_OTHERS, "the caller may do everything, so nothing is turned away unread"


def test_the_document_in_docs_is_that_of_the_application() -> None:
    assert DOCUMENT.read_text("utf-8") == current(), "run: python -m admin_api.openapi > docs/openapi.json"


def test_no_schema_is_named_after_a_module() -> None:
    """As FastAPI does with two models of one name: whoever moves a file would change what clients are made from."""
    assert [name for name in json.loads(DOCUMENT.read_text("utf-8"))["components"]["schemas"] if "__" in name] == []
