"""Attempts on a Ray cluster (`pip install 'rao[ray]'`), for recording, evaluation and online training alike.

    recipe.py   what a model is made of, so that another process can make it again
    job.py      what travels between the driver and the actors
    actor.py    the actor: an open sandbox, a model, and the one attempt (`many.run_attempt`)
    pool.py     the driver: as many actors as the cluster has room for, and what happens when one is lost
    cluster.py  the connection to a cluster, or a local one

`AttemptSettings.runner` is the only place where the rest of rao meets it. docs/ray.md has the commands.
"""
