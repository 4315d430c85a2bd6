/* What the page shows, and its address: `#run=…&node=0.2&step=3` survives a reload and the back button. */
(() => {
  "use strict";
  const { hooks, Run } = rao;

  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = new Map();
  for (const each of data.runs ?? []) runs.set(each.id, new Run(each));
  const sides = data.kind === "compare" ? (data.runs ?? []).map((each) => new Run(each)) : [];
  const served = Boolean(data.live);
  const problems = new Map();

  const listeners = new Set();
  let state = {
    view: data.kind,
    run: null,
    node: null,
    step: null,
    query: "",
    folded: new Set(),
    zoom: null,
    help: false,
    tick: 0,
    connection: served ? "connecting" : null,
    problem: null,
    theme: remembered("theme") ?? "system",
  };

  function remembered(name) {
    try {
      return localStorage.getItem(`rao-viewer-${name}`);
    } catch {
      return null; // a page in a sandbox has no storage
    }
  }

  function remember(name, value) {
    try {
      localStorage.setItem(`rao-viewer-${name}`, value);
    } catch {
      // it is not remembered then
    }
  }

  // -- the address -----------------------------------------------------------------------------------------------------

  let written = location.hash;
  let timer = null;
  let lastByKeys = false;

  function fromAddress() {
    const at = new URLSearchParams(location.hash.slice(1));
    const pair = at.get("compare")?.split("..") ?? null;
    const asked = pair ? "compare" : at.get("run") && data.kind === "folder" ? "run" : at.get("view") ?? data.kind;
    const view = rao.views.has(asked) ? asked : data.kind;
    const named = at.get("run");
    const unknown = named === null || (data.kind === "run" && !served && !runs.has(named));
    const run = unknown ? (view === "run" ? (data.runs?.[0]?.id ?? null) : null) : named;
    const step = Number(at.get("step"));
    return {
      view,
      run,
      pair,
      node: at.get("node"),
      step: Number.isInteger(step) && step > 0 ? step : null,
      query: at.get("q") ?? state.query,
    };
  }

  function toAddress() {
    const at = [];
    const put = (name, value) => at.push(`${name}=${encodeURIComponent(value)}`);
    if (state.view === "compare" && state.pair) put("compare", state.pair.join(".."));
    else if (state.view !== data.kind && state.view !== "run") put("view", state.view);
    if (state.view === "run" && (data.kind !== "run" || (data.runs?.length ?? 0) > 1)) put("run", state.run ?? "");
    if (state.node) put("node", state.node);
    if (state.node && state.step) put("step", state.step);
    return at.length ? `#${at.join("&")}` : "";
  }

  function write(byKeys) {
    clearTimeout(timer);
    timer = null;
    const wanted = toAddress();
    if (wanted === location.hash || (wanted === "" && location.hash === "#")) return;
    const url = wanted || location.pathname + location.search;
    if (byKeys && lastByKeys) history.replaceState(null, "", url);
    else history.pushState(null, "", url);
    lastByKeys = byKeys;
    written = wanted;
  }

  function readAddress() {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    lastByKeys = false;
    written = location.hash;
    const next = fromAddress();
    const other = next.run !== state.run;
    set({ ...next, ...(other ? { folded: new Set(), zoom: null } : {}) });
    unfold(next.run, next.node);
    if (next.view === "run") open(next.run);
    if (next.view === "compare") rao.pairs?.open(next.pair);
  }

  // -- changes ---------------------------------------------------------------------------------------------------------

  function set(patch) {
    state = { ...state, ...patch };
    for (const listener of [...listeners]) listener();
  }

  /** Go somewhere: the address follows, at once or (while one holds a key) soon. */
  function go(patch, { byKeys = false } = {}) {
    set(patch);
    if (byKeys) {
      if (timer === null) timer = setTimeout(() => write(true), 200);
    } else write(false);
  }

  /** Select an agent and a step of it. */
  function select(node, step = null, options = {}) {
    unfold(state.run, node);
    go({ node, step }, options);
  }

  function unfold(id, node) {
    const run = runs.get(id);
    if (!run || !node) return;
    const closed = run.path(node).slice(0, -1).filter((above) => state.folded.has(above.id));
    if (!closed.length) return;
    const folded = new Set(state.folded);
    for (const above of closed) folded.delete(above.id);
    set({ folded });
  }

  function fold(ids, closed) {
    const folded = new Set(state.folded);
    for (const id of ids) closed ? folded.add(id) : folded.delete(id);
    set({ folded });
  }

  function openRun(id) {
    go({ view: "run", run: id, node: null, step: null, folded: new Set(), zoom: null });
    open(id);
  }

  /** Show a run of a folder: it stands in the page, or the server has it. */
  async function open(id) {
    if (!id) return;
    await have(id);
    if (served && data.kind === "folder" && state.run === id) rao.live?.follow(id);
  }

  async function have(id) {
    if (runs.has(id)) return;
    const inPage = [...document.querySelectorAll("script[data-run]")].find((each) => each.dataset.run === id);
    try {
      let found = null;
      if (inPage) found = JSON.parse(inPage.textContent);
      else if (served) {
        const answer = await fetch(`run/${encodeURIComponent(id)}.json`);
        if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
        found = await answer.json();
      }
      if (found) {
        runs.set(id, new Run(found));
        problems.delete(id);
      } else problems.set(id, "This page does not hold the run. Look at it with `rao trace view FILE`.");
    } catch (error) {
      problems.set(id, `The run could not be read: ${error.message}`);
    }
    set({ tick: state.tick + 1 });
    unfold(state.run, state.node);
  }

  function setTheme(theme) {
    remember("theme", theme);
    applyTheme(theme);
    set({ theme });
  }

  function applyTheme(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  // -- for components --------------------------------------------------------------------------------------------------

  const same = (a, b) => a.length === b.length && a.every((value, i) => Object.is(value, b[i]));

  /** The parts of the state that `choose` returns as an array; the component is drawn anew when one of them changes. */
  function useStore(choose) {
    const [, again] = hooks.useReducer((n) => n + 1, 0);
    const chosen = choose(state);
    const seen = hooks.useRef(chosen);
    seen.current = chosen;
    hooks.useLayoutEffect(() => {
      const listener = () => {
        if (!same(choose(state), seen.current)) again();
      };
      listeners.add(listener);
      listener();
      return () => listeners.delete(listener);
    }, []);
    return chosen;
  }

  applyTheme(state.theme);

  rao.store = {
    data, runs, served, problems, set, go, select, fold, openRun, setTheme, useStore, readAddress, have, remember, remembered,
    get: () => state,
    touch: () => set({ tick: state.tick + 1 }),
    run: () => runs.get(state.run) ?? null,
    /** A run of a comparison: by its place where both have the same id. */
    runOf: (id, place) => (data.kind === "compare" && data.runs?.[place]?.id === id ? sides[place] : runs.get(id) ?? null),
  };

  // One of the two comes first, by the browser; the second finds nothing new.
  window.addEventListener("popstate", readAddress);
  window.addEventListener("hashchange", () => {
    if (location.hash !== written) readAddress();
  });
})();
