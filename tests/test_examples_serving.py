"""The examples that serve, as they stand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import cleandoc
from pathlib import Path

import httpx2

from recursive_agent.testing import ScriptedEndpoint, by_goal

EXAMPLES = Path(__file__).parent.parent / "examples"
WISH = "Berlin to Lisbon on day 3, two nights"
PLAN = cleandoc("""
    ```python
    flight = min(await find_flights('Berlin', 'Lisbon', 3), key=lambda flight: flight['price'])
    room = min(await find_rooms('Lisbon'), key=lambda room: room['price'])
    finish({'flights': [flight['number']], 'hotels': [room['hotel']], 'price': flight['price'] + 2 * room['price']})
    ```""")
TRIP = {"flights": ["RA 11"], "hotels": ["Alfama"], "price": 277}
SCRIPT = by_goal({WISH: PLAN, "to the moon": "There are no flights."})


def _environment(endpoint: ScriptedEndpoint, **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": endpoint.base_url, "RAO_MODEL": "scripted", "PATH": os.environ["PATH"], **more}


def test_an_application_gets_an_answer_of_its_type_out_of_two_tools(tmp_path: Path) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint:
        shown = subprocess.run(
            [sys.executable, EXAMPLES / "travel_desk.py", WISH],
            env=_environment(endpoint),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "find_rooms" in endpoint.requests[0].text("system")
    assert shown.stdout == "RA 11; Alfama: 277 euros\n"
    assert len(list((tmp_path / "traces").iterdir())) == 1


@contextmanager
def _service(endpoint: ScriptedEndpoint, folder: Path) -> Iterator[httpx2.Client]:
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "web_service.py"],
        env=_environment(endpoint, PORT="0", DESK_KEY="desk-key"),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with httpx2.Client(base_url=url, timeout=60, headers={"Authorization": "Bearer desk-key"}) as client:
                yield client
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_a_web_service_around_it(tmp_path: Path) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint, _service(endpoint, tmp_path) as client:
        answer = client.post("/trips", json={"wish": WISH})
        assert (answer.status_code, answer.json()) == (200, TRIP)
        none = client.post("/trips", json={"wish": "to the moon"})
        assert none.status_code == 422
        assert "No trip was found" in none.json()["error"]["message"]
        assert client.post("/trips", json={"wish": 7}).status_code == 400
        assert client.post("/trips", json={"wish": WISH}, headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/health").status_code == 200
        document = client.get("/openapi.json").json()
        assert "/trips" in document["paths"]
        assert json.dumps(document).count("Trip") > 0
