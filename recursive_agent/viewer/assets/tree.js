/* The tree of agents, one row each, with the bars of the timeline beside the names. Only rows that are seen are drawn. */
(() => {
  "use strict";
  const { html, hooks, words, text, parts, timeline, store } = rao;
  const { useRef, useLayoutEffect, useState, useEffect } = hooks;

  const ROW = 28;

  function label(node, run, closed) {
    const bits = [
      text.clean(words.oneLine(node.goal, 120)),
      words.state(node, run),
      words.count(node.steps.length, "step"),
      node.usage ? words.count(node.usage.total, "token") : "tokens not reported",
      words.seconds(run.endOf(node) - node.started),
    ];
    if (node.score !== null && node.score !== undefined) bits.push(`score ${words.decimal(node.score, 2)}`);
    if (run.critical.has(node.id)) bits.push("on the critical path");
    if (closed) bits.push(`${words.count(run.sums.get(node.id).agents - 1, "agent")} folded`);
    return bits.join(", ");
  }

  function Row({ node, run, index, selected, closed, indent, box }) {
    const children = run.childrenOf(node.id);
    const siblings = node.parent === null ? run.roots : run.childrenOf(node.parent);
    const sum = run.sums.get(node.id);
    const toggle = (event) => {
      event.stopPropagation();
      store.fold([node.id], !closed);
    };
    const pick = () => {
      store.select(node.id);
      box.current?.focus({ preventScroll: true });
    };
    const state = words.state(node, run);
    const below = closed && children.length ? sum : null;
    return html`<div role="treeitem" id=${`row-${node.id}`} class=${`row${selected ? " selected" : ""}${run.critical.has(node.id) ? " critical" : ""}`}
        style=${{ transform: `translateY(${index * ROW}px)` }} onClick=${pick}
        aria-level=${node.depth + 1} aria-selected=${String(selected)} aria-expanded=${children.length ? String(!closed) : null}
        aria-setsize=${siblings.length} aria-posinset=${siblings.indexOf(node) + 1} aria-label=${label(node, run, closed)}>
      <span class="name" style=${{ paddingLeft: `${4 + node.depth * indent}px` }}>
        <span class="twisty" onClick=${children.length ? toggle : null}>${children.length ? (closed ? "▸" : "▾") : ""}</span>
        <${parts.Mark} status=${node.status} />
        <span class="goal" title=${`${node.id} · ${text.clean(words.oneLine(node.goal, 300))}`}>${text.clean(words.oneLine(node.goal, 160)) || "(no goal)"}</span>
        ${below && html`<span class="badge" title="Agents below">+${words.number(below.agents - 1)}${below.failed - (sum && node.status !== "finished" && node.status !== "running" ? 1 : 0) > 0 ? " ✗" : ""}</span>`}
        ${node.status !== "finished" && html`<span class="badge state ${words.mark(node.status).kind}">${state}</span>`}
        ${node.score !== null && node.score !== undefined && html`<span class="badge score" title="Score">${words.decimal(node.score, 2)}</span>`}
      </span>
      <span class="number steps">${node.steps.length}</span>
      <span class="number tokens">${node.usage ? words.number(node.usage.total) : "–"}</span>
      <span class="number time">${words.seconds(run.endOf(node) - node.started)}</span>
    </div>`;
  }

  /** The keys of a tree (WAI-ARIA), and those of a list reader. Returns true where the key was one of them. */
  function key(event, run, rows, at, folded) {
    const node = rows[at];
    const goTo = (index) => {
      const to = rows[Math.max(0, Math.min(rows.length - 1, index))];
      if (to) store.select(to.id, null, { byKeys: true });
    };
    const page = 15;
    switch (event.key) {
      case "ArrowDown": case "j": goTo(at + 1); return true;
      case "ArrowUp": case "k": goTo(at - 1); return true;
      case "PageDown": goTo(at + page); return true;
      case "PageUp": goTo(at - page); return true;
      case "Home": goTo(0); return true;
      case "End": case "G": goTo(rows.length - 1); return true;
      case "ArrowRight": case "l":
        if (!node || !run.childrenOf(node.id).length) return true;
        if (folded.has(node.id)) store.fold([node.id], false);
        else goTo(at + 1);
        return true;
      case "ArrowLeft": case "h":
        if (!node) return true;
        if (run.childrenOf(node.id).length && !folded.has(node.id)) store.fold([node.id], true);
        else if (node.parent !== null) store.select(node.parent, null, { byKeys: true });
        return true;
      case "*":
        if (node) store.fold((node.parent === null ? run.roots : run.childrenOf(node.parent)).map((each) => each.id), false);
        return true;
      case "Enter": case " ":
        document.getElementById("detail")?.focus();
        return true;
      default: return false;
    }
  }

  function Tree({ run }) {
    const [selected, step, folded, zoom, theme, tick] = store.useStore((s) => [s.node, s.step, s.folded, s.zoom, s.theme, s.tick]);
    const box = useRef(null);
    const canvas = useRef(null);
    const [width, setWidth] = useState(0);
    const [tip, setTip] = useState(null);
    const kept = useRef({});
    if (kept.current.run !== run || kept.current.version !== run.version || kept.current.folded !== folded) {
      const rows = run.rows(folded);
      kept.current = { run, version: run.version, folded, rows, at: new Map(rows.map((node, i) => [node.id, i])) };
    }
    const { rows, at } = kept.current;
    const index = at.get(selected) ?? -1;
    const { first, last, top, height } = parts.useWindow(rows.length, ROW, box);
    const scale = { from: zoom?.from ?? 0, to: zoom?.to ?? run.end, width };
    const indent = Math.min(14, 90 / Math.max(1, run.deepest));

    useLayoutEffect(() => {
      if (index >= 0) parts.reveal(box.current, index, ROW);
    }, [selected, run]);
    useEffect(() => {
      const measure = () => {
        if (!canvas.current) return;
        const panel = box.current.closest(".tree-panel");
        panel.style.setProperty("--scrollbar", `${box.current.offsetWidth - box.current.clientWidth}px`);
        setWidth(canvas.current.clientWidth);
      };
      measure();
      const watch = new ResizeObserver(measure);
      watch.observe(canvas.current);
      const scheme = matchMedia("(prefers-color-scheme: dark)");
      const again = () => setWidth((now) => now + 1e-6);
      scheme.addEventListener("change", again);
      return () => {
        watch.disconnect();
        scheme.removeEventListener("change", again);
      };
    }, []);
    useLayoutEffect(() => {
      if (width > 0) timeline.drawRows(canvas.current, run, rows, { first, last, top, rowHeight: ROW, scale, height, selected, step });
    }, [run, run.version, rows, first, last, top, height, width, scale.from, scale.to, selected, step, theme, tick]);

    const under = (event) => {
      const area = canvas.current.getBoundingClientRect();
      const x = event.clientX - area.left;
      const y = event.clientY - area.top;
      if (x < 0 || y < 0 || x > area.width || y > area.height || !width) return null;
      const node = rows[Math.floor((y + box.current.scrollTop) / ROW)];
      if (!node) return null;
      const second = (scale.to - scale.from) / width;
      const time = scale.from + x * second;
      return { node, time, x: event.clientX, y: event.clientY, bar: timeline.barAt(node, run, time, 2 * second) };
    };
    const move = (event) => {
      const found = under(event);
      setTip(found?.bar ? found : null);
    };
    const press = (event) => {
      const found = under(event);
      if (!found?.bar) return;
      event.stopPropagation();
      store.select(found.node.id, found.bar.step);
    };
    const wheel = (event) => {
      const found = (event.ctrlKey || event.metaKey) && under(event);
      if (!found) return;
      event.preventDefault();
      rao.zoom.by(run, event.deltaY > 0 ? 1.25 : 0.8, found.time);
    };
    useEffect(() => {
      const element = box.current;
      element.addEventListener("wheel", wheel, { passive: false });
      return () => element.removeEventListener("wheel", wheel);
    });
    const press2 = (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (key(event, run, rows, Math.max(0, index), folded)) event.preventDefault();
    };
    const drawn = [];
    for (let i = first; i < last; i += 1) drawn.push(i);
    if (index >= 0 && (index < first || index >= last)) drawn.push(index);
    const foldable = rows.length && run.order.length > 1;
    const marks = timeline.ticks(scale.from, scale.to, Math.max(80, width));
    return html`<section class="tree-panel" aria-label="Agents" style=${{ "--whole": `${rows.length * ROW + 36}px` }}>
      <div class="tree-head">
        <span class="name">${words.count(run.order.length, "agent")}
          ${foldable && html`<button type="button" class="quiet" onClick=${() => store.set({ folded: new Set() })}>Unfold all</button>
          <button type="button" class="quiet" onClick=${() => store.set({ folded: new Set(run.order.filter((node) => node.depth > 0 && run.childrenOf(node.id).length).map((node) => node.id)) })}>Fold</button>`}
        </span>
        <span class="number steps">steps</span><span class="number tokens">tokens</span><span class="number time">time</span>
        <span class="axis" aria-hidden="true">${width > 0 && marks.at.map((tick) => html`<i class=${(tick - scale.from) / (scale.to - scale.from) > 1 - 44 / width ? "last" : ""} style=${{ left: `${((tick - scale.from) / (scale.to - scale.from)) * 100}%` }}>${timeline.tickLabel(tick, marks.unit)}</i>`)}</span>
      </div>
      <div class="tree-body">
        <div class="rows" ref=${box} role="tree" tabindex="0" aria-label="Tree of agents" aria-activedescendant=${index >= 0 ? `row-${selected}` : null}
            onKeyDown=${press2} onMouseMove=${move} onMouseLeave=${() => setTip(null)} onClickCapture=${press}>
          <div class="space" role="presentation" style=${{ height: `${rows.length * ROW}px` }}>
            ${drawn.map((i) => html`<${Row} key=${rows[i].id} node=${rows[i]} run=${run} index=${i} selected=${rows[i].id === selected} closed=${folded.has(rows[i].id)} indent=${indent} box=${box} />`)}
          </div>
        </div>
        <div class="bars" aria-hidden="true"><canvas ref=${canvas}></canvas></div>
      </div>
      ${tip && html`<div class="tip" style=${{ left: `${Math.min(tip.x + 12, innerWidth - 260)}px`, top: `${tip.y + 16}px` }}>${text.clean(timeline.describe(tip.bar))}</div>`}
    </section>`;
  }

  Object.assign(rao, { Tree });
})();
