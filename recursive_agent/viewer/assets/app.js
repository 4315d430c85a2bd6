/* The page around the views: title, tabs, search, switch of the colours, help, keys that hold everywhere. */
(() => {
  "use strict";
  const { html, hooks, text, store, views } = rao;
  const { useLayoutEffect, useRef } = hooks;

  const KEYS = [
    ["↓ ↑ or j k", "next and previous agent (row, pair, place found)"],
    ["→ ← or l h", "unfold, go in; fold, go up"],
    ["* ", "unfold all siblings"],
    ["Home End", "first and last row"],
    ["Enter", "go to the details of the agent, or open the run"],
    ["s S", "next and previous step of the agent"],
    ["n N", "next and previous agent that did not finish"],
    ["c", "next agent on the critical path"],
    ["+ - 0", "zoom the timeline in, out, the whole run"],
    ["[ ]", "earlier and later in the timeline"],
    ["/", "search"],
    ["t", "focus the tree"],
    ["Esc", "leave the search or this help"],
    ["?", "this help"],
  ];

  function Help() {
    const [help] = store.useStore((s) => [s.help]);
    const box = useRef(null);
    // Before the next key arrives: effects that wait for a painted frame let Escape find the help closed and leave it open.
    useLayoutEffect(() => {
      if (help && box.current && !box.current.open) box.current.showModal();
      if (!help && box.current?.open) box.current.close();
    }, [help]);
    return html`<dialog ref=${box} aria-labelledby="help-title" onClose=${() => store.set({ help: false })}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">${KEYS.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl>
      <p class="note">The address of the page names what is shown: copy it to point somebody to an agent and a step. In the timeline, drag over the strip to zoom; hold Ctrl and turn the wheel over the bars.</p>
      <button type="button" onClick=${() => store.set({ help: false })}>Close</button>
    </dialog>`;
  }

  const THEMES = { system: "Colours: system", light: "Colours: light", dark: "Colours: dark" };

  function Header({ data }) {
    const [view, query, theme, connection, problem] = store.useStore((s) => [s.view, s.query, s.theme, s.connection, s.problem]);
    const next = { system: "light", light: "dark", dark: "system" }[theme];
    const withSearch = view === "run" || view === "compare";
    const back = data.kind === "folder" && view !== "folder";
    const others = data.kind === "run" && (data.runs?.length ?? 0) > 1;
    const tabs = [...views.keys()].filter((kind) => kind === data.kind || (kind === "training" && data.training));
    const state = { connecting: "connecting …", live: "live", lost: "connection lost, trying again …", closed: "the server is gone", ended: "ended" }[connection];
    return html`<header class="bar">
      <h1>${text.clean(data.title ?? "Trace")}</h1>
      ${state && html`<span class="connection ${connection}" role="status">${state}</span>`}
      <nav aria-label="Views">
        ${back && html`<a class="button" href="#" onClick=${(event) => { event.preventDefault(); store.go({ view: "folder", run: null, pair: null, node: null, step: null }); }}>‹ All runs</a>`}
        ${!back && tabs.length > 1 && tabs.map((kind) => html`<button type="button" aria-pressed=${String(view === kind)} onClick=${() => store.go({ view: kind })}>${views.get(kind).label}</button>`)}
        ${others && html`<label><span class="sr">Run</span><select onChange=${(event) => store.openRun(event.target.value)}>${data.runs.map((run) => html`<option value=${run.id} selected=${store.get().run === run.id}>${text.clean(run.file ?? run.id)}</option>`)}</select></label>`}
      </nav>
      ${withSearch && html`<label class="search"><span class="sr">Search all text</span><input id="search" type="search" placeholder="Search all text ( / )" autocomplete="off" spellcheck="false" value=${query}
        onInput=${(event) => store.set({ query: event.target.value })} onKeyDown=${(event) => { if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); document.querySelector(".hit-list")?.focus(); } }} /></label>`}
      <button type="button" class="quiet" onClick=${() => store.setTheme(next)} title=${`Now: ${THEMES[theme]}`} aria-label=${`${THEMES[theme]}. Change to ${next}`}><span aria-hidden="true">${{ system: "◐", light: "☀", dark: "☾" }[theme]}</span></button>
      <button type="button" class="quiet" onClick=${() => store.set({ help: true })} aria-label="Keys and help" title="Keys (?)">?</button>
      ${problem && html`<p class="warn problem" role="status">${text.clean(problem)}</p>`}
    </header>`;
  }

  function moveStep(direction) {
    const run = store.run();
    const { node: id, step } = store.get();
    const node = run?.nodes.get(id);
    if (!node?.steps.length) return;
    const at = node.steps.findIndex((each) => each.number === step);
    const to = node.steps[at < 0 ? (direction > 0 ? 0 : node.steps.length - 1) : Math.max(0, Math.min(node.steps.length - 1, at + direction))];
    store.select(node.id, to.number, { byKeys: true });
  }

  function nextCritical() {
    const run = store.run();
    const on = run?.order.filter((node) => run.critical.has(node.id)) ?? [];
    if (!on.length) return;
    const at = on.findIndex((node) => node.id === store.get().node);
    store.select(on[(at + 1) % on.length].id, null, { byKeys: true });
  }

  /** Keys that hold wherever the focus is, but for fields that one writes in. */
  function keys(event) {
    const { help, view, query } = store.get();
    const writing = event.target.closest?.("input, select, textarea");
    if (event.key === "Escape" && !help && writing) {
      if (writing.id === "search" && query) store.set({ query: "" });
      else writing.blur();
      return;
    }
    if (writing || event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const run = view === "run" ? store.run() : null;
    const act = {
      "/": () => document.querySelector("#search, #folder-search")?.focus(),
      "?": () => store.set({ help: !help }),
      t: () => document.querySelector("[role=tree]")?.focus(),
      s: () => run && moveStep(1),
      S: () => run && moveStep(-1),
      n: () => run && rao.nextFailed(run, 1),
      N: () => run && rao.nextFailed(run, -1),
      c: () => run && nextCritical(),
      "+": () => run && rao.zoom.by(run, 0.5),
      "=": () => run && rao.zoom.by(run, 0.5),
      "-": () => run && rao.zoom.by(run, 2),
      0: () => run && store.set({ zoom: null }),
      "[": () => run && rao.zoom.pan(run, -0.5),
      "]": () => run && rao.zoom.pan(run, 0.5),
      // The tree has these keys itself where it has the focus; elsewhere they reach it all the same.
      j: () => arrow("j"),
      k: () => arrow("k"),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function arrow(key) {
    const tree = document.querySelector("[role=tree]");
    tree?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: false }));
  }

  function App() {
    const [view] = store.useStore((s) => [s.view]);
    const View = views.get(view)?.View;
    useLayoutEffect(() => {
      document.addEventListener("keydown", keys);
      return () => document.removeEventListener("keydown", keys);
    }, []);
    return html`<a class="skip" href="#detail" onClick=${(event) => { event.preventDefault(); (document.getElementById("detail") ?? document.querySelector("main"))?.focus(); }}>Skip to the details</a>
      <${Header} data=${store.data} />
      ${store.data.note && html`<p class="warn page-note">${text.clean(store.data.note)}</p>`}
      <main tabindex="-1">${View ? html`<${View} data=${store.data} />` : html`<p class="none wide">This page has no view of the kind ${text.clean(view)}.</p>`}</main>
      <${Help} />`;
  }

  Object.assign(rao, { App });
})();
