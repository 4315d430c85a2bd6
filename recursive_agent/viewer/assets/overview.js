/* The whole run in one strip: how many model calls and cells went on at once, and the critical path; one zooms in on it. */
(() => {
  "use strict";
  const { html, hooks, words, timeline, store } = rao;
  const { useRef, useLayoutEffect, useEffect, useState } = hooks;

  const HEIGHT = 52;
  const BAND = 8;

  /** How many intervals hold at each moment: steps of `[time, number]`. */
  function profile(intervals) {
    const edges = [];
    for (const [start, end] of intervals) edges.push([start, 1], [Math.max(end, start), -1]);
    edges.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const steps = [];
    let level = 0;
    let most = 0;
    for (const [time, change] of edges) {
      level += change;
      most = Math.max(most, level);
      if (steps.length && steps.at(-1)[0] === time) steps.at(-1)[1] = level;
      else steps.push([time, level]);
    }
    return { steps, most };
  }

  function profiles(run) {
    const model = [];
    const agents = [];
    for (const node of run.order) {
      agents.push([node.started, run.endOf(node)]);
      for (const bar of timeline.barsOf(node, run)) if (bar.kind === "model") model.push([bar.start, bar.end]);
    }
    return { model: profile(model), agents: profile(agents) };
  }

  function draw(canvas, run, found, zoom) {
    const width = canvas.clientWidth;
    if (!width) return;
    const to = timeline.prepare(canvas, width, HEIGHT);
    const colours = timeline.palette();
    const x = (time) => (time / run.end) * width;
    const high = HEIGHT - BAND - 4;
    const area = ({ steps }, most, colour, filled) => {
      if (!most) return;
      to.beginPath();
      to.moveTo(0, high);
      let y = high;
      for (const [time, level] of steps) {
        to.lineTo(x(time), y);
        y = high - (level / most) * (high - 3);
        to.lineTo(x(time), y);
      }
      to.lineTo(width, y);
      if (filled) {
        to.lineTo(width, high);
        to.closePath();
        to.fillStyle = colour;
        to.fill();
      } else {
        to.strokeStyle = colour;
        to.lineWidth = 1;
        to.stroke();
      }
    };
    const most = Math.max(found.model.most, found.agents.most);
    area(found.model, most, colours.model, true);
    area(found.agents, most, colours.muted, false);
    for (const part of run.head.critical_path?.parts ?? []) {
      to.fillStyle = colours.critical;
      to.fillRect(x(part.start), HEIGHT - BAND, Math.max(1, x(part.end) - x(part.start)), BAND - 2);
    }
    if (zoom) {
      to.fillStyle = rao.colour("veil");
      to.fillRect(0, 0, x(zoom.from), HEIGHT);
      to.fillRect(x(zoom.to), 0, width - x(zoom.to), HEIGHT);
      to.strokeStyle = colours.muted;
      to.strokeRect(x(zoom.from) + 0.5, 0.5, Math.max(2, x(zoom.to) - x(zoom.from) - 1), HEIGHT - 1);
    }
  }

  /** Zoom by a factor around a moment (or the middle). */
  function zoomBy(run, factor, around = null) {
    const now = store.get().zoom ?? { from: 0, to: run.end };
    const middle = around ?? (now.from + now.to) / 2;
    const from = Math.max(0, middle - (middle - now.from) * factor);
    const to = Math.min(run.end, middle + (now.to - middle) * factor);
    if (to - from >= run.end * 0.999) store.set({ zoom: null });
    else if (to - from > 1e-5) store.set({ zoom: { from, to } });
  }

  function pan(run, share) {
    const now = store.get().zoom;
    if (!now) return;
    const by = Math.min(run.end - now.to, Math.max(-now.from, (now.to - now.from) * share));
    store.set({ zoom: { from: now.from + by, to: now.to + by } });
  }

  function Overview({ run }) {
    const [zoom, theme, tick] = store.useStore((state) => [state.zoom, state.theme, state.tick]);
    const canvas = useRef(null);
    const found = useRef({ version: -1 });
    const [wide, setWide] = useState(0);
    if (found.current.version !== run.version || found.current.run !== run) found.current = { version: run.version, run, ...profiles(run) };
    const { model, agents } = found.current;
    useLayoutEffect(() => draw(canvas.current, run, found.current, zoom), [zoom, theme, tick, wide, run, run.version]);
    useEffect(() => {
      const watch = new ResizeObserver(() => setWide(canvas.current?.clientWidth ?? 0));
      watch.observe(canvas.current);
      const scheme = matchMedia("(prefers-color-scheme: dark)");
      const again = () => setWide((now) => now + 1e-6);
      scheme.addEventListener("change", again);
      return () => {
        watch.disconnect();
        scheme.removeEventListener("change", again);
      };
    }, []);

    const drag = (event) => {
      if (event.button !== 0) return;
      const box = canvas.current.getBoundingClientRect();
      const at = (each) => Math.min(run.end, Math.max(0, ((each.clientX - box.left) / box.width) * run.end));
      const start = at(event);
      canvas.current.setPointerCapture(event.pointerId);
      const move = (each) => {
        const now = at(each);
        if (Math.abs(now - start) > run.end * 0.004) store.set({ zoom: { from: Math.min(start, now), to: Math.max(start, now) } });
      };
      const up = () => {
        canvas.current.removeEventListener("pointermove", move);
        canvas.current.removeEventListener("pointerup", up);
        canvas.current.removeEventListener("pointercancel", up);
      };
      canvas.current.addEventListener("pointermove", move);
      canvas.current.addEventListener("pointerup", up);
      canvas.current.addEventListener("pointercancel", up);
    };
    const path = run.head.critical_path;
    const share = path && run.end > 0 ? Math.round((path.seconds / run.end) * 100) : null;
    const summary = `At most ${words.count(model.most, "model call")} and ${words.count(agents.most, "agent")} at once.` +
      (path ? ` Critical path: ${words.seconds(path.seconds)}${share === null ? "" : ` (${share} % of the run)`}.` : "");
    return html`<div class="overview">
      <div class="overview-head">
        <p>${summary}</p>
        <ul class="legend" aria-label="Colours of the timeline">
          <li><i class="swatch model"></i>model call</li><li><i class="swatch cell"></i>code</li>
          <li><i class="swatch wait"></i>waits for agents</li><li><i class="swatch call"></i>tool</li><li><i class="swatch critical"></i>critical path</li>
        </ul>
        <div class="zoom" role="group" aria-label="Zoom of the timeline">
          <button type="button" onClick=${() => zoomBy(run, 0.5)} aria-label="Zoom in" title="Zoom in (+)">+</button>
          <button type="button" onClick=${() => zoomBy(run, 2)} disabled=${!zoom} aria-label="Zoom out" title="Zoom out (-)">−</button>
          <button type="button" onClick=${() => pan(run, -0.5)} disabled=${!zoom} aria-label="Earlier" title="Earlier ([)">‹</button>
          <button type="button" onClick=${() => pan(run, 0.5)} disabled=${!zoom} aria-label="Later" title="Later (])">›</button>
          <button type="button" onClick=${() => store.set({ zoom: null })} disabled=${!zoom} title="The whole run (0)">All</button>
        </div>
      </div>
      <canvas ref=${canvas} height=${HEIGHT} role="img" aria-label=${summary} onPointerDown=${drag} onDblClick=${() => store.set({ zoom: null })} title="Drag to zoom in, double-click for the whole run"></canvas>
    </div>`;
  }

  Object.assign(rao, { Overview, zoom: { by: zoomBy, pan } });
})();
