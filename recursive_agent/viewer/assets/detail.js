/* Everything about the agent that is selected. */
(() => {
  "use strict";
  const { html, hooks, words, text, Text, parts, store } = rao;
  const { Block, Facts, Fold, Mark, NodeLink } = parts;
  const { useEffect, useLayoutEffect, useRef, useState } = hooks;

  const MOST_STEPS = 120; // rows of steps that are listed at once
  const MOST_CHILDREN = 60;

  function Path({ run, node }) {
    const above = run.path(node.id).slice(0, -1);
    if (!above.length) return null;
    const shown = above.length > 5 ? [...above.slice(0, 2), null, ...above.slice(-2)] : above;
    return html`<nav class="path" aria-label="Agents above"><ol>${shown.map((each) => html`<li>${each ? html`<${NodeLink} id=${each.id}>${words.agentId(each.id)} ${text.clean(words.oneLine(each.goal, 28))}</${NodeLink}>` : `… ${above.length - 4} more …`}</li>`)}</ol></nav>`;
  }

  /** How the reward of an agent came about. */
  function Credit({ credit, search }) {
    if (!credit) return null;
    const numbers = ["reward", "baseline", "advantage", "weight", "coefficient"].filter((name) => credit[name] !== null && credit[name] !== undefined);
    return html`<section class="credit">
      <h3>Credit in training</h3>
      ${credit.left_out && html`<p class="warn">Left out of training: <${Text} text=${credit.left_out} search=${search} /></p>`}
      ${numbers.length > 0 && html`<dl class="numbers">${numbers.map((name) => html`<div><dt>${name}</dt><dd>${words.decimal(credit[name], 4)}</dd></div>`)}</dl>`}
      ${credit.why?.length > 0 && html`<ul class="why-lines">${credit.why.map((line) => html`<li><${Text} text=${line} search=${search} /></li>`)}</ul>`}
    </section>`;
  }

  function Children({ run, node, search }) {
    const children = run.childrenOf(node.id);
    const [all, setAll] = useState(false);
    if (!children.length) return null;
    const shown = all ? children : children.slice(0, MOST_CHILDREN);
    const failed = children.filter(rao.why.failed).length;
    return html`<${Fold} level=${3} label="Sub-agents" note=${`${words.number(children.length)}${failed ? `, ${failed} did not finish` : ""}`} open=${true}>
      ${() => html`<ul class="children">${shown.map((child) => html`<li key=${child.id}><${Mark} status=${child.status} label=${words.state(child, run)} /> <${NodeLink} id=${child.id}>${words.agentId(child.id)} <${Text} text=${words.oneLine(child.goal, 90)} search=${search} /></${NodeLink}>
        <span class="note">${[child.status === "finished" ? null : words.state(child, run), words.seconds(run.endOf(child) - child.started), child.score === null || child.score === undefined ? null : `score ${words.decimal(child.score, 2)}`].filter(Boolean).join(" · ")}</span></li>`)}</ul>
      ${shown.length < children.length && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>Show all ${words.number(children.length)}</button>`}`}
    </${Fold}>`;
  }

  /** What the caller did, and the answers about calls, as far as they concern this agent (the run, for the root). */
  function Events({ run, node, search }) {
    const root = node === run.root;
    const own = (each) => each.node === node.id || (root && (each.node === null || each.node === undefined));
    const at = (each) => each.time ?? each.at ?? each.start ?? null;
    const when = (each) => (at(each) !== null && at(each) < 1e8 ? `${words.seconds(at(each))} · ` : "");
    const steered = (run.head.steered ?? []).filter(own).map((each) => html`<li><span class="note">${when(each)}</span>${text.clean(words.statusWords(each.action))}${each.text ? html`: <${Text} text=${each.text} search=${search} />` : ""}</li>`);
    const approvals = (run.head.approvals ?? []).filter((each) => each.node === node.id).map((each) => html`<li><span class="note">${when(each)}</span>${each.allowed ? "approved" : "refused"} <code>${text.clean(each.name)}</code> in <${NodeLink} id=${node.id} step=${each.step}>step ${each.step}</${NodeLink}>${each.reason ? html`: <${Text} text=${each.reason} search=${search} />` : ""}${each.error ? html`: <${Text} text=${each.error} search=${search} />` : ""}</li>`);
    const resumed = root ? (run.head.resumptions ?? []).map((each) => html`<li>resumed ${typeof each.at === "number" && each.at > 1e8 ? words.moment(each.at) : when(each)}${each.question ? html` with the question: <${Text} text=${each.question} search=${search} />` : ""}</li>`) : [];
    const all = [...steered, ...approvals, ...resumed];
    if (!all.length) return null;
    return html`<section><h3>Steering, approvals and resumptions</h3><ul class="events">${all}</ul></section>`;
  }

  function Steps({ run, node, step, search }) {
    const [shut] = store.useStore((s) => [s.shut]);
    const [range, setRange] = useState(null);
    const steps = node.steps;
    const chosen = step ?? null;
    const only = steps.length === 1 ? steps[0].number : null;
    const index = steps.findIndex((each) => each.number === chosen);
    let from = 0;
    let to = steps.length;
    if (steps.length > MOST_STEPS && !range) {
      from = Math.max(0, Math.min(steps.length - MOST_STEPS, (index < 0 ? 0 : index) - MOST_STEPS / 2));
      to = from + MOST_STEPS;
    }
    return html`<section class="steps"><h3 class="steps-title">${words.count(steps.length, "step")}</h3>
      ${!steps.length && html`<p class="none">This agent took no step.</p>`}
      ${from > 0 && html`<button type="button" class="quiet" onClick=${() => setRange(true)}>Show ${words.number(from)} earlier steps</button>`}
      <ol>${steps.slice(from, to).map((each) => html`<${rao.Step} key=${each.number} node=${node} run=${run} step=${each} search=${search}
          current=${each.number === chosen} open=${each.number === chosen || (each.number === only && shut !== only)} />`)}</ol>
      ${to < steps.length && html`<button type="button" class="quiet" onClick=${() => setRange(true)}>Show ${words.number(steps.length - to)} later steps</button>`}
    </section>`;
  }

  function facts(run, node) {
    const sum = run.sums.get(node.id);
    const usage = node.usage;
    const found = [["Agent", node.id], ["Depth", words.number(node.depth)]];
    if (node.launched_at && node.parent !== null) found.push(["Launched in", html`<${NodeLink} id=${node.parent} step=${node.launched_at[0]} />`]);
    found.push(["Time", `${words.seconds(run.endOf(node) - node.started)}, from ${words.seconds(node.started)}`]);
    found.push(...parts.usageFacts(usage));
    if (sum && sum.agents > 1) found.push(["With all below", `${words.count(sum.agents, "agent")}, ${words.number(sum.tokens)} tokens${sum.cost ? `, cost ${words.money(sum.cost)}` : ""}`]);
    if (node.model) found.push(["Model", text.clean(node.model)]);
    if (node.score !== null && node.score !== undefined) found.push(["Score", `${words.decimal(node.score, 3)}${node.score_source ? ` (${text.clean(node.score_source)})` : ""}`]);
    else if (node.score_status && node.score_status !== "scored") found.push(["Score", words.statusWords(node.score_status)]);
    if (node.trainable === false) found.push(["Training", "no model is trained on this agent"]);
    if (run.critical.has(node.id)) found.push(["Critical path", words.seconds(run.critical.get(node.id).reduce((total, part) => total + part.end - part.start, 0))]);
    return found;
  }

  function Detail({ run }) {
    const [selected, step, query, tick] = store.useStore((s) => [s.node, s.step, s.query, s.tick]);
    const box = useRef(null);
    const node = run.nodes.get(selected) ?? null;
    const search = text.pattern(query);
    useLayoutEffect(() => {
      if (box.current) box.current.scrollTop = 0;
    }, [selected]);
    useEffect(() => {
      if (!box.current || step === null) return;
      const target = box.current.querySelector(`#step-${step}`);
      if (!target) return;
      const scrolls = box.current.scrollHeight > box.current.clientHeight && getComputedStyle(box.current).overflowY !== "visible";
      if (scrolls) box.current.scrollTop = target.offsetTop - box.current.offsetTop - 8;
      const marked = target.querySelector(".step-body mark");
      if (marked) marked.scrollIntoView({ block: "center" });
    }, [selected, step]);
    if (!node) {
      return html`<section class="detail" id="detail" tabindex="-1" aria-label="Agent"><p class="none">${run.order.length ? "Select an agent to see what it did." : "No agent has started."}</p></section>`;
    }
    const wrong = node.status !== "finished";
    return html`<section class="detail" id="detail" tabindex="0" aria-label=${`Agent ${node.id}`} ref=${box} key=${run.id}>
      <${Path} run=${run} node=${node} />
      <div class="detail-head">
        <h2><${Mark} status=${node.status} /> <span class="status ${words.mark(node.status).kind}">${words.state(node, run)}</span> <span class="note">agent ${words.agentId(node.id)}</span></h2>
        ${wrong && html`<p class="meaning">${node.status === "running" && run.ended ? "Its end is not in the trace." : words.MEANING[node.status]}</p>`}
      </div>
      ${node.reason && html`<${Block} level=${3} label="Reason" kind=${wrong ? "error prose" : "prose"} value=${node.reason} search=${search} />`}
      <${Block} level=${3} label="Goal" value=${node.goal} search=${search} kind="goal-block" />
      ${node.result !== null && node.result !== undefined && html`<${Block} level=${3} label="Result" value=${node.result} search=${search} kind="result" />`}
      <${Facts} facts=${facts(run, node)} />
      <${Credit} credit=${node.credit} search=${search} />
      ${node.context !== null && node.context !== undefined && html`<${Fold} level=${3} label="Context" note="as the agent sees it" open=${rao.stepParts.hit(search, node.context)}>${() => html`<${Block} label="Context" value=${node.context} search=${search} />`}</${Fold}>`}
      ${node.returns !== null && node.returns !== undefined && html`<${Fold} level=${3} label="Type of the result" open=${rao.stepParts.hit(search, node.returns)}>${() => html`<${Block} label="JSON schema" value=${typeof node.returns === "string" ? node.returns : JSON.stringify(node.returns, null, 2)} search=${search} />`}</${Fold}>`}
      <${Children} key=${`children-${node.id}`} run=${run} node=${node} search=${search} />
      <${Events} run=${run} node=${node} search=${search} />
      <${Steps} key=${`steps-${node.id}`} run=${run} node=${node} step=${step} search=${search} />
    </section>`;
  }

  Object.assign(rao, { Detail });
})();
