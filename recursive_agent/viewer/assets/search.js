/* Search over all text of a run. It works in slices of a few milliseconds, so that the page stays quick while one types. */
(() => {
  "use strict";
  const { text } = rao;

  const SLICE = 12; // ms
  const MOST = 2000; // hits that are listed
  const AROUND = 48; // characters shown on each side

  /** All texts of a node: `[step or null, name of the field, text]`. */
  function* texts(node) {
    yield [null, "goal", node.goal];
    yield [null, "context", node.context];
    yield [null, "returns", node.returns];
    yield [null, "result", node.result];
    yield [null, "reason", node.reason];
    yield [null, "agent", node.id];
    for (const why of node.credit?.why ?? []) yield [null, "credit", why];
    for (const step of node.steps) {
      const number = step.number;
      for (const call of step.model) {
        for (const message of call.messages ?? []) yield [number, "prompt", message.content];
        yield [number, "thought", call.reasoning];
        yield [number, "answer", call.text];
        for (const tool of call.tool_calls ?? []) yield [number, "answer", tool.arguments];
      }
      if (step.cell) {
        yield [number, "code", step.cell.code];
        yield [number, "output", step.cell.output];
        yield [number, "error", step.cell.error];
      }
      for (const call of step.calls) {
        yield [number, "call", call.name];
        yield [number, "call", call.args];
        yield [number, "call", call.kwargs];
        yield [number, "call", call.result];
        yield [number, "call", call.error];
      }
    }
  }

  function excerpt(value, at, length) {
    const from = Math.max(0, at - AROUND);
    const to = Math.min(value.length, at + length + AROUND);
    return `${from ? "…" : ""}${value.slice(from, to).replace(/\s+/g, " ")}${to < value.length ? "…" : ""}`;
  }

  /** Hits in one node, one for each field of each step. */
  function inNode(node, search) {
    const hits = [];
    let last = null;
    for (const [step, field, value] of texts(node)) {
      if (typeof value !== "string" || !value) continue;
      search.lastIndex = 0;
      const found = search.exec(value);
      if (!found) continue;
      if (field === "answer" && last && last.step === step && last.field === "code") continue;
      if (field === "code") {
        const answer = hits.findLastIndex((hit) => hit.step === step && hit.field === "answer");
        if (answer >= 0) hits.splice(answer, 1); // the code stands in the answer too
      }
      if (last && last.step === step && last.field === field && hits.at(-1) === last) continue;
      last = { node: node.id, step, field, excerpt: excerpt(value, found.index, found[0].length) };
      hits.push(last);
    }
    return hits;
  }

  /** Search `nodes`; calls `report({ hits, done, more })` as hits come. Returns a function that stops it. */
  function search(nodes, query, report) {
    const wanted = text.pattern(query);
    if (!wanted) {
      report({ hits: [], done: true, more: false });
      return () => {};
    }
    const hits = [];
    let at = 0;
    let stopped = false;
    const channel = new MessageChannel();
    const go = () => {
      if (stopped) return;
      const until = performance.now() + SLICE;
      while (at < nodes.length && hits.length < MOST) {
        for (const hit of inNode(nodes[at], wanted)) hits.push(hit);
        at += 1;
        if (performance.now() > until) break;
      }
      const done = at >= nodes.length || hits.length >= MOST;
      report({ hits: hits.slice(0, MOST), done, more: at < nodes.length });
      if (!done) channel.port2.postMessage(null);
    };
    channel.port1.onmessage = go;
    channel.port2.postMessage(null);
    return () => {
      stopped = true;
      channel.port1.close();
    };
  }

  Object.assign(rao, { search: { search, inNode, texts } });
})();
