/* Two runs side by side, as data: the pairs of the page or of the server, and what differs between two texts. */
(() => {
  "use strict";
  const { store } = rao;

  const compared = new Map();

  const name = (pair) => (pair ?? []).join("..");

  /** The comparison that the page shows: its own, or of two runs of a folder. */
  function current() {
    const { pair } = store.get();
    return pair ? compared.get(name(pair)) ?? null : store.data.compare;
  }

  /** Have the comparison of two runs of a folder from the server. */
  async function open(pair) {
    if (!pair || pair.length !== 2 || compared.has(name(pair))) return;
    try {
      if (!store.served) throw new Error("this page is not served; run `rao trace view` with the two files");
      const answer = await fetch(`compare/${pair.map(encodeURIComponent).join("/")}.json`);
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      compared.set(name(pair), await answer.json());
      store.problems.delete(name(pair));
      for (const id of pair) await store.have(id);
    } catch (error) {
      store.problems.set(name(pair), `The runs could not be compared: ${error.message}.`);
    }
    store.touch();
  }

  /** The lines of two texts (null: there is none): `[sign, text]` with " ", "-" or "+"; null where it would take too long. */
  function lines(left, right) {
    if (left === null) return right.split("\n").map((line) => ["+", line]);
    if (right === null) return left.split("\n").map((line) => ["-", line]);
    if (left === right) return left.split("\n").map((line) => [" ", line]);
    const found = globalThis.Diff.diffLines(ended(left), ended(right), { timeout: 60 });
    if (!found) return null;
    const out = [];
    for (const part of found) {
      const sign = part.added ? "+" : part.removed ? "-" : " ";
      const all = part.value.split("\n");
      if (all.at(-1) === "") all.pop();
      for (const line of all) out.push([sign, line]);
    }
    return out;
  }

  const ended = (value) => (value.endsWith("\n") ? value : `${value}\n`);

  /** Lines with those that are equal left out, but for some around what differs: `[sign, text]` or `["…", number]`. */
  function folded(all, around = 3) {
    const keep = new Uint8Array(all.length);
    all.forEach(([sign], i) => {
      if (sign !== " ") keep.fill(1, Math.max(0, i - around), i + around + 1);
    });
    const out = [];
    let hidden = 0;
    all.forEach((line, i) => {
      if (keep[i]) {
        if (hidden) out.push(["…", hidden]);
        hidden = 0;
        out.push(line);
      } else hidden += 1;
    });
    if (hidden) out.push(["…", hidden]);
    return out;
  }

  Object.assign(rao, { pairs: { current, open, lines, folded, name } });
})();
