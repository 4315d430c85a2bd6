#!/bin/sh
# From an application's recorded runs to a better model; every step says what it made. Give another folder as $1.
set -eu
cd "$(dirname "$0")"
out="${1:-runs}"
policy=$(python -c 'from recursive_agent import SHIPPED; print(SHIPPED)')

# 0. The application's model, which is careless: it often forgets to delegate the last thing it needs.
rao train --env textcraft --model "$policy" --steps 200 --seed 1 --set lessons.drop_child=0.4 --out "$out/careless"

# 1. The application at work: each of 48 orders 8 times.
python app.py --model "$out/careless" --orders 48 --attempts 8 --trace-dir "$out/traces"

# 2. How well each agent did, by the application's own rule. Attempts at one order form a group.
rao score "$out/traces" --with app:score

# 3. What tells the good attempts from the others goes into the weights.
rao train "$out/traces" --model "$out/careless" --out "$out/better" --lr 1.5e-4 --epochs 2 \
    --set collect.tasks_per_step=8 --set collect.temperature=0.7 --set update.warmup_steps=2

# 4. Is it better? Orders that it was not trained on, before and after.
for model in careless better; do
    rm -rf "$out/held-out"
    python app.py --model "$out/$model" --skip 48 --orders 32 --attempts 4 --trace-dir "$out/held-out"
    echo "$model:"
    rao score "$out/held-out" --with app:score --quiet
done
