#!/bin/sh
# From an application's recorded runs to a better model; every step says what it made. Give another folder as $1.
set -eu
cd "$(dirname "$0")"
out="${1:-runs}"
policy=$(python -c 'from recursive_agent.model.embedded import SHIPPED; print(SHIPPED)')

# 1. The application at work: each of 48 orders 8 times.
python app.py --orders 48 --attempts 8 --trace-dir "$out/traces"

# 2. How well each agent did, by the application's own rule. Attempts at one order form a group.
rao score "$out/traces" --with app:score

# 3. What tells the good attempts from the others goes into the weights.
rao train "$out/traces" --objective rao --model "$policy" --out "$out/better"

# 4. Is it better? Orders that it was not trained on, before and after.
for model in "$policy" "$out/better"; do
    rm -rf "$out/held-out"
    python app.py --model "$model" --skip 48 --orders 32 --attempts 4 --trace-dir "$out/held-out"
    echo "$model:"
    rao score "$out/held-out" --with app:score --quiet
done
