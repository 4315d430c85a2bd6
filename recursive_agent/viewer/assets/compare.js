/* Two runs side by side: the agents in pairs, what changed of each, and its texts line by line. */
(() => {
  "use strict";
  const { html, hooks, words, text, Text, parts, store, pairs } = rao;
  const { Mark, Block, Fold } = parts;
  const { useRef, useState, useLayoutEffect } = hooks;

  const ROW = 28;
  const MOST_LINES = 600;

  const idOf = (pair) => pair.left ?? `~${pair.right}`;

  /** What differs between two texts, line by line; the same text once. */
  function Difference({ label, left, right, level = 4, code = false }) {
    const [all, setAll] = useState(false);
    const [a, b] = [left, right].map((value) => (value === null || value === undefined ? null : String(value)));
    if (a === null && b === null) return null;
    const search = text.pattern(store.get().query);
    if (a === b) return html`<${Block} level=${level} label=${label} note="same in both" value=${a} search=${search} code=${code} />`;
    const found = pairs.lines(a, b);
    const Heading = `h${level}`;
    if (!found) return html`<div class="two"><${Block} level=${level} label=${`${label}, left`} value=${a ?? ""} search=${search} /><${Block} level=${level} label=${`${label}, right`} value=${b ?? ""} search=${search} /></div>`;
    const rows = all ? found : pairs.folded(found).slice(0, MOST_LINES);
    const spoken = { "-": "left only: ", "+": "right only: " };
    return html`<section class="block difference"><div class="block-head"><${Heading}>${label}</${Heading}><span class="note">${a === null ? "right only" : b === null ? "left only" : "differs"}</span></div>
      <div class="lines" role="region" tabindex="0" aria-label=${`Difference of ${label}`}>${rows.map(([sign, line]) => (sign === "…"
        ? html`<div class="gap">… ${words.count(line, "equal line")} …</div>`
        : html`<div class=${sign === "-" ? "removed" : sign === "+" ? "added" : "equal"}><span class="sign" aria-hidden="true">${sign}</span>${sign !== " " && html`<span class="sr">${spoken[sign]}</span>`}<span class="line"><${Text} text=${line.length > 4000 ? `${line.slice(0, 4000)}…` : line} search=${search} code=${code} /></span></div>`))}</div>
      ${rows.length < found.length && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>Show all ${words.number(found.length)} lines</button>`}
    </section>`;
  }

  function facts(node, run) {
    if (!node) return null;
    return {
      Agent: node.id,
      Status: words.state(node, run),
      Steps: words.number(node.steps.length),
      Time: words.seconds(run.endOf(node) - node.started),
      Tokens: node.usage ? words.number(node.usage.total) : "not reported",
      Cost: words.money(node.usage?.cost),
      Score: words.decimal(node.score, 3),
      Reward: words.decimal(node.credit?.reward, 4),
      Advantage: words.decimal(node.credit?.advantage, 4),
      Model: text.clean(node.model ?? run.head.model ?? "–"),
    };
  }

  function Both({ left, right, runs }) {
    const [a, b] = [facts(left, runs[0]), facts(right, runs[1])];
    const names = Object.keys(a ?? b).filter((name) => (a?.[name] ?? "–") !== "–" || (b?.[name] ?? "–") !== "–");
    return html`<table class="both"><thead><tr><td></td><th scope="col">Left</th><th scope="col">Right</th></tr></thead>
      <tbody>${names.map((name) => {
        const differs = a && b && name !== "Agent" && name !== "Time" && a[name] !== b[name];
        return html`<tr class=${differs ? "differs" : ""}><th scope="row">${name}</th><td>${a?.[name] ?? "not there"}</td><td>${b?.[name] ?? "not there"}${differs ? html`<span class="sr"> (differs)</span>` : ""}</td></tr>`;
      })}</tbody></table>`;
  }

  const added = (step) => (step?.model ?? []).flatMap((call) => call.messages ?? []).map((message) => `[${message.role}]\n${message.content}`).join("\n\n") || null;
  const answer = (step) => (step?.model ?? []).map((call) => [call.reasoning && `[thought]\n${call.reasoning}`, call.text].filter(Boolean).join("\n\n")).join("\n\n") || null;
  const calls = (step) => (step?.calls ?? []).map((call) => `${call.name} ${call.args ?? ""} ${call.kwargs ?? ""}\n→ ${call.error ?? call.result ?? ""}`).join("\n") || null;

  function StepPair({ pair, left, right }) {
    const one = left && pair.left !== null ? left.steps.find((step) => step.number === pair.left) : null;
    const other = right && pair.right !== null ? right.steps.find((step) => step.number === pair.right) : null;
    const [node, step] = [store.get().node, store.get().step];
    const label = pair.left === pair.right ? `Step ${pair.left}` : `Step ${pair.left ?? "–"} | ${pair.right ?? "–"}`;
    const note = pair.left === null ? "right only" : pair.right === null ? "left only" : pair.same ? "same" : (pair.changed ?? []).join(", ");
    return html`<li class=${pair.same ? "same" : "changed"}><${Fold} level=${3} label=${label} note=${note} open=${step !== null && step === (pair.left ?? pair.right)}>${() => html`
      <${Difference} label="Code" left=${one?.cell?.code} right=${other?.cell?.code} code=${true} />
      <${Difference} label="Answer" left=${answer(one)} right=${answer(other)} />
      <${Difference} label="Output" left=${one?.cell?.output || null} right=${other?.cell?.output || null} />
      <${Difference} label="Error" left=${one?.cell?.error} right=${other?.cell?.error} />
      <${Difference} label="Calls" left=${calls(one)} right=${calls(other)} />
      <${Difference} label="Messages added to the prompt" left=${added(one)} right=${added(other)} />`}</${Fold}></li>`;
  }

  function stepPairs(pair, left, right) {
    if (pair.steps) return pair.steps;
    const most = Math.max(left?.steps.length ?? 0, right?.steps.length ?? 0);
    return Array.from({ length: most }, (_, i) => ({ left: left?.steps[i]?.number ?? null, right: right?.steps[i]?.number ?? null, same: false, changed: [] }));
  }

  function PairDetail({ pair, runs }) {
    const left = pair.left === null ? null : runs[0].nodes.get(pair.left) ?? null;
    const right = pair.right === null ? null : runs[1].nodes.get(pair.right) ?? null;
    if (!left && !right) return html`<section class="detail" id="detail" tabindex="0"><p class="none">The agent is not in the page.</p></section>`;
    const schema = (node) => (node?.returns === null || node?.returns === undefined ? null : typeof node.returns === "string" ? node.returns : JSON.stringify(node.returns, null, 2));
    return html`<section class="detail" id="detail" tabindex="0" aria-label="The pair selected">
      <div class="detail-head"><h2>${pair.left === null ? "Right only" : pair.right === null ? "Left only" : pair.same ? "The same in both" : `Differs: ${(pair.changed ?? []).join(", ")}`}</h2></div>
      <${Both} left=${left} right=${right} runs=${runs} />
      <${Difference} level=${3} label="Result" left=${left?.result} right=${right?.result} />
      <${Difference} level=${3} label="Reason" left=${left?.reason} right=${right?.reason} />
      <${Difference} level=${3} label="Goal" left=${left?.goal} right=${right?.goal} />
      <${Difference} level=${3} label="Context" left=${left?.context} right=${right?.context} />
      <${Difference} level=${3} label="Type of the result" left=${schema(left)} right=${schema(right)} />
      <h3 class="steps-title">Steps</h3>
      <ol class="step-pairs">${stepPairs(pair, left, right).map((each, i) => html`<${StepPair} key=${`${idOf(pair)}-${i}`} pair=${each} left=${left} right=${right} />`)}</ol>
    </section>`;
  }

  /** Pairs with their depth, without those that are the same and have nothing below that differs where only changes count. */
  function listed(found, runs, only) {
    const out = [];
    for (const pair of found.pairs) {
      const node = (pair.left !== null && runs[0].nodes.get(pair.left)) || (pair.right !== null && runs[1].nodes.get(pair.right)) || null;
      if (!only || !pair.same || (pair.below ?? 0) > 0) out.push({ pair, node, depth: node?.depth ?? 0 });
    }
    return out;
  }

  function PairRow({ item, index, runs, selected, most }) {
    const { pair, node, depth } = item;
    const sides = [pair.left === null ? null : runs[0].nodes.get(pair.left), pair.right === null ? null : runs[1].nodes.get(pair.right)];
    const what = pair.left === null ? "right only" : pair.right === null ? "left only" : pair.same ? "" : (pair.changed ?? []).join(", ") || "differs";
    const states = sides.map((side, i) => (side ? words.state(side, runs[i]) : "not there"));
    return html`<div role="treeitem" id=${`pair-${idOf(pair)}`} aria-level=${depth + 1} aria-selected=${String(selected)} class=${`row pair${selected ? " selected" : ""}${what ? " changed" : ""}`} style=${{ transform: `translateY(${index * ROW}px)` }}
        aria-label=${`${text.clean(words.oneLine(node?.goal, 100))}, left ${states[0]}, right ${states[1]}, ${what || "same"}`} onClick=${() => store.select(idOf(pair))}>
      <span class="name" style=${{ paddingLeft: `${6 + depth * Math.min(14, 100 / Math.max(1, most))}px` }}>
        ${sides.map((side) => (side ? html`<${Mark} status=${side.status} />` : html`<span class="mark absent" aria-hidden="true">·</span>`))}
        <span class="goal">${text.clean(words.oneLine(node?.goal, 140)) || "(no goal)"}</span></span>
      <span class="what">${what}</span>
    </div>`;
  }

  function Sides({ runs, found }) {
    const changed = found.pairs.filter((pair) => !pair.same).length;
    return html`<div class="sides">${runs.map((run, i) => html`<p key=${i}><b>${i ? "Right" : "Left"}</b> <${Mark} status=${run.status} label=${words.statusWords(run.status)} /> ${text.clean(run.head.file ?? run.id)}
        <span class="note">${words.count(run.order.length, "agent")} · ${run.head.usage?.total === null || run.head.usage?.total === undefined ? "tokens not reported" : words.count(run.head.usage.total, "token")} · ${words.seconds(run.head.duration)}</span></p>`)}
      <p class="note" role="status">${changed ? `${words.number(changed)} of ${words.count(found.pairs.length, "pair")} differ.` : "The runs have the same content."}</p></div>`;
  }

  function View() {
    const [selected, pairIds, tick, query] = store.useStore((s) => [s.node, s.pair, s.tick, s.query]);
    const [only, setOnly] = useState(false);
    const box = useRef(null);
    const found = pairs.current();
    const runs = found ? [found.left, found.right].map((id, i) => store.runOf(id, i)) : [];
    const ready = found && runs[0] && runs[1];
    const items = ready ? listed(found, runs, only) : [];
    const index = items.findIndex((item) => idOf(item.pair) === selected);
    const { first, last } = parts.useWindow(items.length, ROW, box, Boolean(ready));
    useLayoutEffect(() => {
      if (!ready || (index >= 0)) return;
      const start = items.find((item) => !item.pair.same) ?? items[0];
      if (start) store.set({ node: idOf(start.pair), step: null });
    }, [ready, index]);
    useLayoutEffect(() => {
      if (index >= 0) parts.reveal(box.current, index, ROW);
    }, [selected]);
    if (!ready) return html`<p class="none wide">${store.problems.get(pairs.name(pairIds)) ?? "Waiting for the two runs …"}</p>`;
    const key = (event) => {
      const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: 15, PageUp: -15, Home: -1e9, End: 1e9 }[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      const to = items[Math.max(0, Math.min(items.length - 1, index + step))];
      if (to) store.select(idOf(to.pair), null, { byKeys: true });
    };
    const most = items.reduce((deepest, item) => Math.max(deepest, item.depth), 0);
    const drawn = [];
    for (let i = first; i < last; i += 1) drawn.push(i);
    if (index >= 0 && (index < first || index >= last)) drawn.push(index);
    return html`<div class="compare">
      <${Sides} runs=${runs} found=${found} />
      <div class="panes">
        <section class="tree-panel" aria-label="Pairs of agents" style=${{ "--whole": `${items.length * ROW + 36}px` }}>
          <div class="tree-head"><span class="name"><label><input type="checkbox" checked=${only} onChange=${() => setOnly(!only)} /> Only what differs</label></span><span class="what">differs in</span></div>
          <div class="tree-body"><div class="rows" ref=${box} role="tree" tabindex="0" aria-label="Pairs of agents" aria-activedescendant=${index >= 0 ? `pair-${selected}` : null} onKeyDown=${key}>
            <div class="space" role="presentation" style=${{ height: `${items.length * ROW}px` }}>${drawn.map((i) => html`<${PairRow} key=${idOf(items[i].pair)} item=${items[i]} index=${i} runs=${runs} selected=${i === index} most=${most} />`)}</div>
          </div></div>
        </section>
        ${index >= 0 ? html`<${PairDetail} key=${selected} pair=${items[index].pair} runs=${runs} />` : html`<section class="detail" id="detail" tabindex="0"><p class="none">${items.length ? "Select a pair." : "Nothing differs."}</p></section>`}
      </div>
    </div>`;
  }

  rao.registerView("compare", { label: "Compare", View });
})();
