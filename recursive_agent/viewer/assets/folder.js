/* A folder of traces as a table: sorted by any column, filtered; a row opens its run. */
(() => {
  "use strict";
  const { html, hooks, words, text, Text, parts, store } = rao;
  const { useRef, useState, useEffect } = hooks;

  const ROW = 30;

  const COLUMNS = [
    { name: "goal", label: "Goal", of: (row) => row.goal ?? "", text: true },
    { name: "status", label: "Status", of: (row) => row.status ?? "", text: true },
    { name: "score", label: "Score", of: (row) => row.score, show: (value) => words.decimal(value, 3) },
    { name: "reward", label: "Reward", of: (row) => row.reward, show: (value) => words.decimal(value, 3) },
    { name: "agents", label: "Agents", of: (row) => row.agents, show: words.number },
    { name: "depth", label: "Depth", of: (row) => row.depth, show: words.number },
    { name: "steps", label: "Steps", of: (row) => row.steps, show: words.number },
    { name: "tokens", label: "Tokens", of: (row) => row.tokens, show: words.number },
    { name: "cost", label: "Cost", of: (row) => row.cost, show: words.money },
    { name: "duration", label: "Time", of: (row) => row.duration, show: words.seconds },
    { name: "started", label: "Started", of: (row) => row.started, show: words.moment },
    { name: "model", label: "Model", of: (row) => row.model ?? "", text: true },
    { name: "group", label: "Group", of: (row) => row.group ?? "", text: true },
    { name: "file", label: "File", of: (row) => row.file ?? "", text: true },
  ];
  const NUMBERS = ["score", "tokens"];

  const collator = new Intl.Collator("en", { numeric: true });

  /** Rows in an order; what is not known comes last, whichever way. */
  function sorted(rows, column, down) {
    const of = COLUMNS.find((each) => each.name === column)?.of ?? COLUMNS[0].of;
    const absent = (value) => value === null || value === undefined || value === "";
    return [...rows].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      if (absent(x) || absent(y)) return Number(absent(x)) - Number(absent(y));
      const order = typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y));
      return down ? -order : order;
    });
  }

  /** Whether a row passes all filters; `inside` holds the runs in which the text was found. */
  function passes(row, filters, search, inside) {
    if (filters.status && (row.status ?? "") !== filters.status) return false;
    for (const name of NUMBERS) {
      const value = row[name];
      const [least, most] = [filters[`min_${name}`], filters[`max_${name}`]].map((each) => (each === "" || each === undefined ? null : Number(each)));
      if (least !== null && !(value !== null && value !== undefined && value >= least)) return false;
      if (most !== null && !(value !== null && value !== undefined && value <= most)) return false;
    }
    if (!search) return true;
    if (inside?.has(row.run)) return true;
    return [row.goal, row.file, row.model, row.group, row.run, words.statusWords(row.status)].some((value) => rao.stepParts.hit(search, value));
  }

  /** The runs in the page whose text holds a query, found in slices of a few milliseconds. */
  function searchInside(query, report) {
    const wanted = (query ?? "").trim();
    if (!wanted) return () => {};
    // In the page a text is JSON with what could be markup escaped: the query is written the same way.
    const written = JSON.stringify(wanted).slice(1, -1).replace(/[<>&]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const search = new RegExp(written.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
    const texts = [...document.querySelectorAll("script[data-run]")];
    const found = new Set();
    let at = 0;
    let stopped = false;
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const until = performance.now() + 12;
      while (!stopped && at < texts.length && performance.now() < until) {
        if (search.test(texts[at].textContent)) found.add(texts[at].dataset.run);
        at += 1;
      }
      if (stopped) return;
      if (at < texts.length) channel.port2.postMessage(null);
      else report(new Set(found));
    };
    channel.port2.postMessage(null);
    return () => {
      stopped = true;
      channel.port1.close();
    };
  }

  function Filters({ filters, change, statuses, shown, all, chosen }) {
    const input = (name, label, props) => html`<label>${label}<input value=${filters[name] ?? ""} onInput=${(event) => change({ [name]: event.target.value })} ...${props} /></label>`;
    const compare = () => store.go({ view: "compare", pair: [...chosen], node: null, step: null }) ?? rao.pairs.open([...chosen]);
    return html`<form class="filters" role="search" aria-label="Filters" onSubmit=${(event) => event.preventDefault()}>
      ${input("text", "Text", { type: "search", id: "folder-search", placeholder: "goal, file, or anything in a trace" })}
      <label>Status<select value=${filters.status ?? ""} onChange=${(event) => change({ status: event.target.value })}>
        <option value="">any</option>${statuses.map((name) => html`<option value=${name} selected=${filters.status === name}>${words.statusWords(name)}</option>`)}
      </select></label>
      ${input("min_score", "Score from", { type: "number", step: "any" })}${input("max_score", "to", { type: "number", step: "any" })}
      ${input("min_tokens", "Tokens from", { type: "number", min: 0 })}${input("max_tokens", "to", { type: "number", min: 0 })}
      <button type="button" class="quiet" onClick=${() => change(null)}>Clear</button>
      ${store.served && html`<button type="button" disabled=${chosen.length !== 2} onClick=${compare} title="Choose two runs">Compare two</button>`}
      <p role="status" class="note">${shown === all ? words.count(all, "run") : `${words.number(shown)} of ${words.count(all, "run")}`}</p>
    </form>`;
  }

  // How the table was when a run was opened: it is the same when one comes back.
  let kept = { sort: { column: "started", down: true }, filters: {}, active: 0, top: 0 };

  function View({ data }) {
    const [tick] = store.useStore((s) => [s.tick]);
    const [sort, setSort] = useState(kept.sort);
    const [filters, setFilters] = useState(kept.filters);
    const [inside, setInside] = useState(null);
    const [chosen, setChosen] = useState([]);
    const [active, setActive] = useState(kept.active);
    const box = useRef(null);
    useEffect(() => {
      setInside(null);
      return searchInside(filters.text, setInside);
    }, [filters.text]);
    useEffect(() => {
      if (store.served) rao.live.folder();
      if (document.activeElement === document.body) box.current.focus({ preventScroll: true });
      box.current.scrollTop = kept.top;
    }, []);
    const rows = data.rows ?? [];
    const search = text.pattern(filters.text);
    const shown = sorted(rows.filter((row) => passes(row, filters, search, inside)), sort.column, sort.down);
    const columns = COLUMNS.filter((column) => ["goal", "status", "tokens"].includes(column.name) || rows.some((row) => row[column.name] !== null && row[column.name] !== undefined && row[column.name] !== ""));
    const { first, last } = parts.useWindow(shown.length, ROW, box);
    const at = Math.min(active, shown.length - 1);
    const change = (patch) => {
      setFilters(patch === null ? {} : { ...filters, ...patch });
      if (box.current) box.current.scrollTop = 0;
    };
    const order = (column) => setSort((now) => ({ column: column.name, down: now.column === column.name ? !now.down : !column.text }));
    const open = (row) => {
      kept = { sort, filters, active: shown.indexOf(row), top: box.current.scrollTop };
      if (filters.text) store.set({ query: filters.text });
      store.openRun(row.run);
    };
    const choose = (id) => setChosen(chosen.includes(id) ? chosen.filter((each) => each !== id) : [...chosen.slice(-1), id]);
    const key = (event) => {
      if (event.target.tagName === "A" && event.key === "Enter") return;
      const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key];
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (step) {
        const to = Math.max(0, Math.min(shown.length - 1, at + step));
        setActive(to);
        parts.reveal(box.current, to + 1, ROW);
      } else if (event.key === "Enter" && shown[at]) open(shown[at]);
      else return;
      event.preventDefault();
    };
    const template = { "--columns": columns.map((column) => ({ goal: "minmax(var(--goal), 3fr)", file: "minmax(8rem, 1.5fr)", model: "minmax(7rem, 1fr)", started: "11rem", status: "8.5rem", group: "7rem" })[column.name] ?? "5.2rem").join(" ") };
    const drawn = [];
    for (let i = first; i < last; i += 1) drawn.push(i);
    return html`<section class="folder" aria-label="Runs">
      <${Filters} filters=${filters} change=${change} shown=${shown.length} all=${rows.length} chosen=${chosen} statuses=${[...new Set(rows.map((row) => row.status).filter(Boolean))].sort()} />
      <div class="table-box" ref=${box} tabindex="0" role="region" aria-label="Table of runs" onKeyDown=${key} style=${template}>
        <div role="table" aria-rowcount=${shown.length + 1} aria-label="Runs">
          <div role="row" aria-rowindex="1" class="table-head">
            ${store.served && html`<span role="columnheader" class="choose"><span class="sr">Compare</span></span>`}
            ${columns.map((column) => html`<span role="columnheader" key=${column.name} class=${column.text ? "" : "number"} aria-sort=${sort.column === column.name ? (sort.down ? "descending" : "ascending") : "none"}>
              <button type="button" onClick=${() => order(column)}>${column.label}<span aria-hidden="true">${sort.column === column.name ? (sort.down ? " ↓" : " ↑") : ""}</span></button></span>`)}
          </div>
          <div class="space" role="rowgroup" style=${{ height: `${shown.length * ROW}px` }}>
            ${drawn.map((i) => {
              const row = shown[i];
              return html`<div role="row" key=${row.file ?? row.run} aria-rowindex=${i + 2} class=${`table-row${i === at ? " active" : ""}`} style=${{ transform: `translateY(${i * ROW}px)` }} onClick=${(event) => { setActive(i); if (!event.target.closest("a, input")) open(row); }}>
                ${store.served && html`<span role="cell" class="choose"><input type="checkbox" checked=${chosen.includes(row.run)} onChange=${() => choose(row.run)} aria-label=${`Compare ${text.clean(row.run)}`} /></span>`}
                ${columns.map((column) => {
                  const value = column.of(row);
                  if (column.name === "goal") return html`<span role="cell"><a href=${`#run=${encodeURIComponent(row.run)}`} onClick=${(event) => { if (event.ctrlKey || event.metaKey || event.shiftKey) return; event.preventDefault(); open(row); }}><${Text} text=${words.oneLine(value, 160) || "(no goal)"} search=${search} /></a></span>`;
                  if (column.name === "status") return html`<span role="cell"><${parts.Mark} status=${value} /> <span class="status ${words.mark(value).kind}">${words.statusWords(value)}</span></span>`;
                  return html`<span role="cell" class=${column.text ? "" : "number"}>${column.text ? html`<${Text} text=${words.oneLine(value, 120)} search=${search} />` : column.show(value)}</span>`;
                })}
              </div>`;
            })}
          </div>
        </div>
      </div>
      ${!shown.length && html`<p class="none wide">${rows.length ? "No run passes the filters." : "There is no trace in this folder yet."}</p>`}
    </section>`;
  }

  Object.assign(rao, { folder: { sorted, passes } });
  rao.registerView("folder", { label: "Folder", View });
})();
