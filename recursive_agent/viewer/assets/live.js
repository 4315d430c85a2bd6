/* A served page follows its files: the server sends what changed, and it is merged by id. Selection and scroll stay. */
(() => {
  "use strict";
  const { store, Run } = rao;

  let source = null;
  let at = null;

  function connect(url) {
    at = url;
    source?.close();
    source = new EventSource(url);
    source.addEventListener("open", () => store.set({ connection: "live" }));
    source.addEventListener("error", () => {
      store.set({ connection: source.readyState === EventSource.CLOSED ? "closed" : "lost" });
    });
    source.addEventListener("nodes", (event) => nodes(JSON.parse(event.data)));
    source.addEventListener("rows", (event) => rows(JSON.parse(event.data)));
    source.addEventListener("training", (event) => {
      store.data.training = JSON.parse(event.data);
      store.touch();
    });
    source.addEventListener("bye", (event) => {
      source.close();
      store.set({ connection: "ended", problem: JSON.parse(event.data).reason ?? null });
    });
  }

  function nodes({ run: id, whole = false, nodes: changed = [], head = null, writing = null, problem = null }) {
    const run = store.runs.get(id);
    if (run) run.take({ head, nodes: changed, whole, writing });
    else if (head) {
      const fresh = new Run({ ...head, nodes: changed });
      fresh.writing = Boolean(writing);
      store.runs.set(id, fresh);
    }
    const state = store.get();
    store.set({
      tick: state.tick + 1,
      connection: writing === false ? "ended" : "live",
      problem,
      ...(state.run === null && state.view === "run" ? { run: id } : {}),
    });
  }

  function rows({ rows: changed = [], gone = [] }) {
    const byFile = new Map((store.data.rows ?? []).map((row) => [row.file, row]));
    for (const row of changed) byFile.set(row.file, row);
    for (const file of gone) byFile.delete(file);
    store.data.rows = [...byFile.values()];
    store.set({ tick: store.get().tick + 1, connection: "live" });
  }

  /** Follow the run that is shown, in a folder that is served; nothing to do where the page follows it already. */
  function follow(id) {
    const url = `${store.data.live.url}?run=${encodeURIComponent(id)}`;
    if (at !== url) connect(url);
  }

  /** Follow the folder again. */
  function folder() {
    if (at !== store.data.live.url) connect(store.data.live.url);
  }

  rao.live = { follow, folder, start: () => store.served && connect(store.data.live.url) };
})();
