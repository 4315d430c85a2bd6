"""A seeded campaign of faults: random trees of agents, everything around them failing, and what must hold all the same.

    python -m tests.campaign --seed 17          one tree, with its plan and what it broke
    python -m tests.campaign --count 2000       many, each failure shrunk to the least plan that shows it

One integer makes a plan (`draw`): the tree, what each agent's model writes (`cells`), what the endpoint does to which
attempt of which step (`answers`), what happens to the machine (`strikes`), what the caller asks for. `runner` carries a
plan out against a real endpoint and real workers on a clock that jumps over waiting (`clock`), `invariants` says what was
broken, and `shrink` makes the plan small.
"""
