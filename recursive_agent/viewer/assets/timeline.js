/* The bars of the timeline: for each agent on screen its life, its model calls and cells, and what of them is critical. */
(() => {
  "use strict";
  const { words } = rao;

  /** Ticks of a time axis: round seconds, at most one for each 80 pixels. */
  function ticks(from, to, width) {
    const most = Math.max(1, Math.floor(width / 80));
    const raw = (to - from) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const units = raw >= 10 ? [10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400] : [1, 2, 5, 10].map((n) => n * power);
    const unit = units.find((each) => each >= raw) ?? units.at(-1);
    const found = [];
    for (let i = Math.ceil(from / unit); i * unit <= to + unit * 1e-9; i += 1) found.push(i * unit);
    return { at: found, unit };
  }

  function tickLabel(value, unit) {
    if (value === 0) return "0 s";
    if (value >= 99.5 && unit >= 1) return words.seconds(value);
    const digits = Math.max(0, -Math.floor(Math.log10(unit) + 1e-9));
    return `${value.toFixed(Math.min(6, digits))} s`;
  }

  /** Bars of a node in time: what the canvas draws, and what stands under the mouse. */
  function bars(node, run) {
    const found = [];
    for (const step of node.steps) {
      for (const call of step.model) if (known(call)) found.push({ kind: "model", step: step.number, start: call.start, end: call.end, part: call });
      if (step.cell && known(step.cell)) found.push({ kind: "cell", step: step.number, start: step.cell.start, end: step.cell.end, part: step.cell });
      for (const call of step.calls) if (known(call)) found.push({ kind: call.child ? "wait" : "call", step: step.number, start: call.start, end: call.end, part: call });
    }
    return found;
  }

  const known = (part) => Number.isFinite(part.start) && Number.isFinite(part.end);

  const cache = new WeakMap(); // bars of a node: a node that changes is a new object
  function barsOf(node, run) {
    let found = cache.get(node);
    if (!found) cache.set(node, (found = bars(node, run)));
    return found;
  }

  function palette() {
    return Object.fromEntries(
      ["model", "cell", "wait", "call", "life", "failed-life", "running-life", "critical", "grid", "muted"].map((name) => [name, rao.colour(name)]),
    );
  }

  /** A canvas as sharp as the screen; returns its context, with lengths in CSS pixels. */
  function prepare(canvas, width, height) {
    const ratio = globalThis.devicePixelRatio || 1;
    const wide = Math.max(1, Math.round(width * ratio));
    const high = Math.max(1, Math.round(height * ratio));
    if (canvas.width !== wide) canvas.width = wide;
    if (canvas.height !== high) canvas.height = high;
    const to = canvas.getContext("2d");
    to.setTransform(ratio, 0, 0, ratio, 0, 0);
    to.clearRect(0, 0, width, height);
    return to;
  }

  /** Draw the rows `first` … `last` of `rows`. `scale` has from, to (seconds) and width (pixels). */
  function drawRows(canvas, run, rows, { first, last, top, rowHeight, scale, height, selected, step }) {
    const to = prepare(canvas, scale.width, height);
    const colours = palette();
    const x = (time) => ((time - scale.from) / (scale.to - scale.from)) * scale.width;
    to.fillStyle = colours.grid;
    for (const tick of ticks(scale.from, scale.to, scale.width).at) to.fillRect(Math.round(x(tick)), 0, 1, height);

    const rect = (colour, start, end, y, high) => {
      const left = Math.max(-2, x(start));
      const right = Math.min(scale.width + 2, x(end));
      if (right < 0 || left > scale.width) return;
      to.fillStyle = colour;
      to.fillRect(left, y, Math.max(1, right - left), high);
    };
    for (let i = first; i < last; i += 1) {
      const node = rows[i];
      const y = i * rowHeight - top;
      const middle = y + rowHeight / 2;
      const life = node.status === "running" ? colours["running-life"] : node.status === "finished" ? colours.life : colours["failed-life"];
      rect(life, node.started, run.endOf(node), middle - 6, 12);
      let lastPixel = {};
      for (const bar of barsOf(node, run)) {
        const pixel = Math.round(x(bar.end));
        if (pixel === lastPixel[bar.kind] && x(bar.end) - x(bar.start) < 1) continue; // it would be drawn on the one before
        lastPixel[bar.kind] = pixel;
        if (bar.kind === "wait") rect(colours.wait, bar.start, bar.end, middle - 6, 12);
        else if (bar.kind === "call") rect(colours.call, bar.start, bar.end, middle + 1, 5);
        else rect(colours[bar.kind], bar.start, bar.end, middle - 6, 12);
      }
      for (const part of run.critical.get(node.id) ?? []) rect(colours.critical, part.start, part.end, y + rowHeight - 5, 3);
      if (selected === node.id && step !== null) {
        const span = run.stepOf(node, step) && run.span(run.stepOf(node, step));
        if (span) {
          to.strokeStyle = colours.muted;
          to.lineWidth = 1.5;
          to.strokeRect(x(span.start) - 1, y + 3, Math.max(3, x(span.end) - x(span.start) + 2), rowHeight - 6);
        }
      }
    }
  }

  /** The bar of a node under a moment, the innermost first; null where there is none. `slack` in seconds. */
  function barAt(node, run, time, slack) {
    let best = null;
    const rank = { call: 0, wait: 1, model: 2, cell: 3 };
    for (const bar of barsOf(node, run)) {
      if (time < bar.start - slack || time > bar.end + slack) continue;
      if (!best || rank[bar.kind] < rank[best.kind]) best = bar;
    }
    return best;
  }

  /** A bar in words. */
  function describe(bar) {
    const lasted = `${words.seconds(bar.end - bar.start)}, from ${words.seconds(bar.start)}`;
    if (bar.kind === "model") {
      const usage = bar.part.usage;
      return `Step ${bar.step}: model call${bar.part.purpose === "summary" ? " (summary)" : ""} · ${lasted}${usage ? ` · ${words.count(usage.total, "token")}` : ""}`;
    }
    if (bar.kind === "cell") return `Step ${bar.step}: code · ${lasted}`;
    return `Step ${bar.step}: ${bar.part.name}${bar.part.child ? ` (agent ${words.agentId(bar.part.child)})` : ""} · ${lasted}${bar.part.error ? " · error" : ""}`;
  }

  Object.assign(rao, { timeline: { ticks, tickLabel, drawRows, prepare, palette, barAt, describe, barsOf } });
})();
