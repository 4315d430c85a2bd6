"""A travel desk: an application with an agent in it, two tools and an answer of a type.

    python examples/travel_desk.py "Berlin to Lisbon on day 3, two nights, as cheap as it gets"

Set OPENAI_BASE_URL, OPENAI_API_KEY and RAO_MODEL for the model.
"""

from __future__ import annotations

import sys

import anyio
from pydantic import BaseModel

from recursive_agent import Agent, Limits

FLIGHTS = [
    {"number": "RA 11", "origin": "Berlin", "destination": "Lisbon", "day": 3, "price": 129},
    {"number": "RA 12", "origin": "Berlin", "destination": "Lisbon", "day": 4, "price": 88},
    {"number": "RA 27", "origin": "Berlin", "destination": "Porto", "day": 3, "price": 95},
    {"number": "RA 31", "origin": "Lisbon", "destination": "Porto", "day": 5, "price": 40},
]
ROOMS = {
    "Lisbon": [{"hotel": "Alfama", "price": 74}, {"hotel": "Baixa Palace", "price": 210}],
    "Porto": [{"hotel": "Ribeira", "price": 61}],
}
INSTRUCTIONS = """You plan trips. Offer only flights and rooms that the tools have found, and add up prices in code.
Give each leg of a journey of several cities to a sub-agent, all legs at once."""


class Trip(BaseModel):
    flights: list[str]
    hotels: list[str]
    price: int


async def find_flights(origin: str, destination: str, day: int | None = None) -> list[dict[str, object]]:
    """Flights from one city to another, on one day or on all; `price` is in euros."""
    return [
        flight
        for flight in FLIGHTS
        if (flight["origin"], flight["destination"]) == (origin, destination) and day in (None, flight["day"])
    ]


async def find_rooms(city: str) -> list[dict[str, object]]:
    """Rooms in a city; `price` is in euros a night."""
    return list(ROOMS.get(city, []))


def travel_agent(trace_dir: str | None = None) -> Agent:
    """The agent of the desk. A wish may cost so much and no more, whatever the agents make of it."""
    return Agent(
        tools=[find_flights, find_rooms],
        instructions=INSTRUCTIONS,
        limits=Limits(max_depth=1, max_agents=8, max_tokens=100_000, timeout=300),
        trace_dir=trace_dir,
    )


async def main(wish: str) -> None:
    result = await travel_agent("traces").solve(wish, returns=Trip)
    if not result.status.finished:
        sys.exit(f"no trip: {result.status} ({result.reason}); see {result.trace_path}")
    trip: Trip = result.output
    print(f"{', '.join(trip.flights)}; {', '.join(trip.hotels)}: {trip.price} euros")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    anyio.run(main, sys.argv[1])
