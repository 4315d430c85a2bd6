"""The travel desk as a web service: `python examples/web_service.py`, with `pip install 'rao[serve]'`.

    curl -d '{"wish": "Berlin to Lisbon on day 3, two nights"}' -H 'Content-Type: application/json' localhost:8000/trips

Keys, limits, errors, /health, /metrics and a graceful end come with `make_app`. OPENAI_BASE_URL, OPENAI_API_KEY and RAO_MODEL
name the model; DESK_KEY, where set, is what clients must send as a bearer token; PORT is 8000 if not said.
"""

import os

import anyio
from pydantic import BaseModel
from travel_desk import Trip, travel_agent

from rao_rl.serve.http import ApiError, ServerSettings, StrictRequest, make_app, serve, unless_disconnected

agent = travel_agent()
key = os.environ.get("DESK_KEY")
settings = ServerSettings(port=int(os.environ.get("PORT", "8000")), api_keys=(key,) if key else (), max_concurrency=8)
app = make_app("travel desk", settings, lifespan=lambda _: agent)  # one sandbox and one connection for all requests


class Wish(BaseModel):
    wish: str


@app.post("/trips")
async def plan(wish: Wish, request: StrictRequest) -> Trip:
    async def work() -> Trip:
        async with app.state.gate:
            result = await agent.solve(wish.wish, returns=Trip)
        if not result.status.finished:
            raise ApiError(422, f"No trip was found ({result.status}).")
        trip: Trip = result.output
        return trip

    return await unless_disconnected(request.receive, work)  # nobody pays for a tree whose client has gone


if __name__ == "__main__":
    anyio.run(lambda: serve(app, settings, ready=lambda url: print(url, flush=True)))
