/* The view of one run: its headline, why it failed, the search, the tree with the timeline, and the agent selected. */
(() => {
  "use strict";
  const { html, hooks, words, text, Text, parts, store } = rao;
  const { Mark, NodeLink, Fold, Facts } = parts;
  const { useEffect, useRef, useState, useLayoutEffect } = hooks;

  function Headline({ run }) {
    const { head } = run;
    const usage = head.usage ?? {};
    const running = run.order.filter((node) => node.status === "running").length;
    const bits = [
      words.count(run.order.length, "agent") + (running && !run.ended ? ` (${running} running)` : ""),
      `depth ${words.number(head.max_depth ?? run.deepest)}`,
      words.count(usage.calls ?? 0, "model call"),
      usage.total === null || usage.total === undefined ? "tokens not reported" : words.count(usage.total, "token"),
      words.seconds(head.duration ?? run.end),
      usage.cost ? `cost ${words.money(usage.cost)}` : null,
      head.resumptions?.length ? `resumed ${head.resumptions.length === 1 ? "once" : `${head.resumptions.length} times`}` : null,
      head.origin ? `forked from ${text.clean(words.oneLine(head.origin, 40))}` : null,
    ].filter(Boolean);
    const facts = [
      ["Run", text.clean(run.id)],
      ["File", text.clean(head.file ?? "–")],
      ["Model", text.clean(head.model ?? "–")],
      ["Started", words.moment(head.started)],
      ["Critical path", head.critical_path ? words.seconds(head.critical_path.seconds) : "–"],
      ["Critical steps", words.number(head.critical_steps)],
      ["Time with agents at once", head.concurrent_share === null || head.concurrent_share === undefined ? "–" : `${Math.round(head.concurrent_share * 100)} %`],
      ["Group", text.clean(head.group ?? "–")],
      ["Seed", head.seed === null || head.seed === undefined ? "–" : String(head.seed)],
      ["Prompt tokens", words.number(usage.prompt)],
      ["of them cached", words.number(usage.cached)],
      ["Completion tokens", words.number(usage.completion)],
      ["of them reasoning", words.number(usage.reasoning)],
    ].filter(([, value]) => value && value !== "–");
    const settings = Object.entries({ ...(head.limits ?? {}), ...(head.settings ?? {}) }).filter(([, value]) => value !== null);
    return html`<div class="headline">
      <p class="headline-line"><${Mark} status=${run.status} /> <strong class="status ${words.mark(run.status).kind}">${run.root ? words.state(run.root, run) : "not begun"}</strong>${bits.map((bit) => html`<span class="bit">${" · "}${bit}</span>`)}</p>
      ${head.incomplete && html`<p class="warn">The trace does not hold everything: <${Text} text=${head.incomplete} /></p>`}
      <${Fold} level=${2} label="About this run">${() => html`<${Facts} facts=${facts} />${settings.length > 0 && html`<h3>Limits and settings</h3><${Facts} facts=${settings.map(([name, value]) => [text.clean(name), text.clean(words.oneLine(typeof value === "string" ? value : JSON.stringify(value), 160))])} />`}`}</${Fold}>
    </div>`;
  }

  const MOST_LINKS = 6;

  function Why({ run }) {
    const [tick] = store.useStore((s) => [s.tick]);
    const found = rao.why.why(run);
    if (!found) return null;
    const { chain } = found;
    const shown = chain.length > MOST_LINKS ? [...chain.slice(0, 2), null, ...chain.slice(-(MOST_LINKS - 3))] : chain;
    return html`<section class="why" aria-label="Why it failed">
      <h2>${found.title}</h2>
      ${found.meaning && html`<p class="meaning">${found.meaning}</p>`}
      <ol class="chain">${shown.map((link, i) => {
        if (!link) return html`<li class="gap">… ${words.count(chain.length - MOST_LINKS + 1, "agent")} between …</li>`;
        const last = link === chain.at(-1);
        return html`<li class=${last ? "last" : ""}>
          <p><${Mark} status=${link.node.status} /> <${NodeLink} id=${link.node.id}>${words.agentId(link.node.id)} ${text.clean(words.oneLine(link.node.goal, 70))}</${NodeLink}> <span class="badge ${words.mark(link.node.status).kind}">${link.words}</span></p>
          ${link.reason && html`<p class="reason"><${Text} text=${words.oneLine(link.reason, 300)} /></p>`}
          ${(last || i === 0) && link.fault && html`<p class="fault"><${NodeLink} id=${link.node.id} step=${link.fault.step}>Step ${link.fault.step}</${NodeLink}>, ${text.clean(link.fault.what)}: <code><${Text} text=${words.oneLine(link.fault.line, 240)} /></code></p>`}
        </li>`;
      })}</ol>
      ${found.counts.length > 0 && html`<p class="counts">Below it, ${words.count(found.counts.reduce((sum, [, number]) => sum + number, 0), "agent")} did not finish: ${found.counts.map(([name, number]) => `${words.number(number)} ${name}`).join(", ")}. <button type="button" class="quiet" onClick=${() => nextFailed(run, 1)}>Next that did not finish (n)</button></p>`}
    </section>`;
  }

  /** Select the next agent, in the order of the tree, that did not finish. */
  function nextFailed(run, direction) {
    const at = run.order.findIndex((node) => node.id === store.get().node);
    const length = run.order.length;
    for (let i = 1; i <= length; i += 1) {
      const node = run.order[(((at + direction * i) % length) + length) % length];
      if (node.status !== "finished") return store.select(node.id, null, { byKeys: true });
    }
    return undefined;
  }

  const HIT = 46;

  function Hits({ run }) {
    const [query, tick] = store.useStore((s) => [s.query, s.tick]);
    return text.pattern(query) ? html`<${HitList} run=${run} query=${query} />` : null;
  }

  function HitList({ run, query }) {
    const [found, setFound] = useState({ hits: [], done: true, more: false });
    const [active, setActive] = useState(-1);
    const box = useRef(null);
    useEffect(() => {
      setActive(-1);
      return rao.search.search(run.order, query, setFound);
    }, [run, run.version, query]);
    const { first, last } = parts.useWindow(found.hits.length, HIT, box);
    const search = text.pattern(query);
    const visit = (i) => {
      const hit = found.hits[i];
      if (!hit) return;
      setActive(i);
      store.select(hit.node, hit.step, { byKeys: true });
      parts.reveal(box.current, i, HIT);
    };
    const key = (event) => {
      if (event.key === "ArrowDown" || event.key === "j") visit(Math.min(found.hits.length - 1, active + 1));
      else if (event.key === "ArrowUp" || event.key === "k") visit(Math.max(0, active - 1));
      else return;
      event.preventDefault();
    };
    const nodes = new Set(found.hits.map((hit) => hit.node)).size;
    const drawn = [];
    for (let i = first; i < last; i += 1) drawn.push(i);
    return html`<section class="hits" aria-label="Search hits">
      <p role="status">${found.hits.length ? `${words.number(found.hits.length)}${found.more && found.done ? " or more" : ""} ${found.hits.length === 1 ? "place" : "places"} in ${words.count(nodes, "agent")}${found.done ? "" : " so far"}` : found.done ? "Nothing was found." : "Searching …"}</p>
      <div class="hit-list" ref=${box} role="listbox" tabindex="0" aria-label="Places found" onKeyDown=${key} aria-activedescendant=${active >= first && active < last ? `hit-${active}` : null}>
        <div class="space" role="presentation" style=${{ height: `${found.hits.length * HIT}px` }}>
          ${drawn.map((i) => {
            const hit = found.hits[i];
            return html`<div key=${i} id=${`hit-${i}`} role="option" aria-selected=${String(i === active)} class="hit" style=${{ transform: `translateY(${i * HIT}px)` }} onClick=${() => visit(i)}>
              <span class="where">${words.agentId(hit.node)}${hit.step ? `, step ${hit.step}` : ""} · ${hit.field}</span><span class="excerpt"><${Text} text=${hit.excerpt} search=${search} /></span></div>`;
          })}
        </div>
      </div>
    </section>`;
  }

  /** The edge between tree and details, which one can move. */
  function Divider({ share, setShare }) {
    const press = (event) => {
      const area = event.currentTarget.parentElement.getBoundingClientRect();
      const element = event.currentTarget;
      element.setPointerCapture(event.pointerId);
      const move = (each) => setShare(clamp(((each.clientX - area.left) / area.width) * 100));
      const up = () => {
        element.removeEventListener("pointermove", move);
        element.removeEventListener("pointerup", up);
      };
      element.addEventListener("pointermove", move);
      element.addEventListener("pointerup", up);
    };
    const key = (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      setShare(clamp(share + (event.key === "ArrowLeft" ? -3 : 3)));
    };
    return html`<div class="divider" role="separator" tabindex="0" aria-orientation="vertical" aria-label="Width of the tree" aria-valuenow=${Math.round(share)} aria-valuemin="20" aria-valuemax="80" onPointerDown=${press} onKeyDown=${key}></div>`;
  }
  const clamp = (share) => Math.min(80, Math.max(20, share));

  function View() {
    const [id, tick, selected] = store.useStore((s) => [s.run, s.tick, s.node]);
    const [share, setShare] = useState(Number(store.remembered("share")) || 56);
    const run = store.runs.get(id) ?? null;
    useEffect(() => store.remember("share", String(share)), [share]);
    useLayoutEffect(() => {
      if (run?.root && (!selected || !run.nodes.has(selected))) store.set({ node: run.root.id, step: null });
    }, [run, run?.root, selected]);
    if (!run) return html`<p class="none wide">${store.problems.get(id) ?? (store.get().connection === "closed" ? "The server is gone." : "Waiting for the run …")}</p>`;
    return html`<div class="run-view">
      <${Headline} run=${run} key=${`head-${run.id}`} />
      <${Why} run=${run} />
      <${Hits} run=${run} key=${`hits-${run.id}`} />
      <${rao.Overview} run=${run} />
      <div class="panes" style=${{ "--share": `${share}%` }}>
        <${rao.Tree} run=${run} key=${`tree-${run.id}`} />
        <${Divider} share=${share} setShare=${setShare} />
        <${rao.Detail} run=${run} />
      </div>
    </div>`;
  }

  rao.nextFailed = nextFailed;
  rao.registerView("run", { label: "Run", View });
})();
