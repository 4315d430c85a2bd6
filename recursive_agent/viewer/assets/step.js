/* One step of an agent: what the model was sent and answered, the code that was run, what came of it. */
(() => {
  "use strict";
  const { html, words, text, Text, parts, conversation, store } = rao;
  const { Block, Fold, NodeLink } = parts;

  function spent(span) {
    return span ? words.seconds(span.end - span.start) : "–";
  }

  /** The messages that a call was sent; those that are new with it are open. */
  function Prompt({ node, number, index, search }) {
    const { messages, added } = conversation.sent(node, number, index);
    const before = messages.length - added;
    return html`<ol class="messages">${messages.map((message, i) => {
      const calls = message.tool_calls?.length ? message.tool_calls.map((call) => `${call.name}(${call.arguments})`).join("\n") : "";
      const value = [message.content, calls].filter(Boolean).join("\n");
      const role = message.role === "assistant" ? "assistant (the agent)" : message.role;
      return html`<li key=${i} class=${i >= before ? "new" : ""}>
        <${Fold} level=${6} label=${text.clean(role)} note=${`${words.number(value.length)} characters${i >= before ? " · new" : ""}${i < before || messages.length > 6 ? ` · ${text.clean(words.oneLine(value, 60))}` : ""}`} open=${i >= before || hit(search, value)}>
          ${() => html`<${Block} level=${6} label=${`Message ${i + 1} of ${messages.length}`} value=${value} search=${search} kind="message" />`}
        </${Fold}>
      </li>`;
    })}</ol>`;
  }

  function hit(search, value) {
    if (!search || !value) return false;
    search.lastIndex = 0;
    return search.test(value);
  }

  function ModelCall({ node, step, call, index, search, opened }) {
    const summary = call.purpose === "summary";
    const usage = call.usage;
    const facts = [
      Number.isFinite(call.end - call.start) ? words.seconds(call.end - call.start) : null,
      ...parts.usageWords(usage),
      call.finish_reason ? `finish reason ${call.finish_reason}` : null,
      [call.model, call.version].filter(Boolean).join(" "),
      call.attempts > 1 ? words.count(call.attempts, "attempt") : null,
      call.restart ? "the conversation begins anew with this call" : null,
    ].filter(Boolean);
    const rest = conversation.beside(call.text, summary ? null : step.cell?.code);
    const tools = (call.tool_calls ?? []).map((tool) => `${tool.name}(${tool.arguments})`).join("\n");
    const { messages, added } = conversation.sent(node, step.number, index);
    const promptHit = opened && messages.slice(-added || messages.length).some((message) => hit(search, message.content));
    return html`<div class="model-call">
      ${summary && html`<h4 class="purpose">Summary of the conversation, written before this step</h4>`}
      <${Fold} label="Prompt as sent" note=${`${words.count(messages.length, "message")}, ${added} new`} open=${promptHit}>
        ${() => html`<${Prompt} node=${node} number=${step.number} index=${index} search=${search} />`}
      </${Fold}>
      ${call.reasoning && html`<${Block} label="Thought" kind="thought" value=${call.reasoning} search=${search} />`}
      ${rest && html`<${Block} label=${step.cell && !summary ? "Answer beside the code" : "Answer"} kind="answer" value=${rest} search=${search} />`}
      ${!rest && !step.cell && !tools && html`<p class="none">The answer was empty.</p>`}
      ${tools && !step.cell && html`<${Block} label="Tool calls of the answer" kind="answer" value=${tools} search=${search} />`}
      <p class="call-facts">${text.clean(facts.join(" · "))}</p>
    </div>`;
  }

  function Call({ call, run, search }) {
    const child = call.child && run.nodes.get(call.child);
    const args = [call.args, call.kwargs].filter((value) => value && value !== "[]" && value !== "{}").join("  ");
    const notes = [
      call.refused && "refused before it was made",
      call.shared && "shares the agent that another call launched",
      call.omitted && "the answer was too large to be kept",
    ].filter(Boolean);
    const took = Number.isFinite(call.end - call.start) ? words.seconds(call.end - call.start) : "–";
    return html`<li class="call ${call.error ? "failed" : ""}">
      <p class="call-head"><code><${Text} text=${call.name} search=${search} /></code> <span class="note">${took}${notes.length ? ` · ${notes.join(" · ")}` : ""}</span>
        ${child && html` <${parts.Mark} status=${child.status} label=${words.state(child, run)} /> <${NodeLink} id=${child.id}>agent ${words.agentId(child.id)}: <${Text} text=${words.oneLine(child.goal, 80)} search=${search} /></${NodeLink}>`}
        ${call.child && !child && html` <span class="note">agent ${text.clean(call.child)}</span>`}</p>
      ${args && !child && html`<${Block} level=${5} label="Arguments" value=${args} search=${search} />`}
      ${call.result !== null && call.result !== undefined && html`<${Block} level=${5} label="Result" value=${call.result} search=${search} />`}
      ${call.error && html`<${Block} level=${5} label="Error" kind="error" value=${call.error} search=${search} />`}
    </li>`;
  }

  /** The line of a step that is folded: what it did in a few words. */
  function gist(step, node) {
    const bits = [];
    const launches = step.calls.filter((call) => call.child).length;
    const others = step.calls.length - launches;
    if (launches) bits.push(`waits for ${words.count(launches, "agent")}`);
    if (others) bits.push(words.count(others, "call"));
    const code = step.cell?.code ?? "";
    const line = code.split("\n").map((each) => each.trim()).find((each) => each && !each.startsWith("#")) ?? "";
    if (!bits.length && line) bits.push(words.oneLine(line, 70));
    if (!step.cell) bits.push(!step.model.length ? "not begun" : node.status === "running" && step === node.steps.at(-1) ? "its code had not ended" : "no code was run");
    return bits.join(" · ");
  }

  function Step({ node, run, step, open, search, current }) {
    const span = run.span(step);
    const tokens = step.model.reduce((sum, call) => (call.usage ? (sum ?? 0) + (call.usage.total ?? 0) : sum), null);
    const fault = Boolean(step.cell?.error) || (step.cell && step.cell.status !== "ok" && step.cell.status !== "finished" && step.cell.status !== "done" && Boolean(step.cell.error));
    const answered = (run.head.approvals ?? []).filter((each) => each.node === node.id && each.step === step.number);
    const toggle = () => store.go({ node: node.id, step: open && current ? null : step.number, shut: open ? step.number : null });
    return html`<li class="step${current ? " current" : ""}" id=${`step-${step.number}`}>
      <h3><button type="button" aria-expanded=${String(open)} onClick=${toggle}>
        <span class="twisty" aria-hidden="true">${open ? "▾" : "▸"}</span>
        <span class="step-name">Step ${step.number}</span>
        <span class="gist">${text.clean(gist(step, node))}</span>
        ${fault && html`<span class="badge failed">error</span>`}
        <span class="number">${tokens === null ? "" : `${words.number(tokens)} tok`}</span><span class="number">${spent(span)}</span>
      </button></h3>
      ${open && html`<div class="step-body">
        ${step.model.map((call, i) => html`<${ModelCall} key=${i} node=${node} step=${step} call=${call} index=${i} search=${search} opened=${current} />`)}
        ${step.cell && html`
          ${step.cell.restarted && html`<p class="warn">The interpreter was restarted: <${Text} text=${step.cell.restarted} search=${search} /></p>`}
          <${Block} label="Code" kind="code-block" value=${step.cell.code} code=${true} search=${search} note=${[
            words.statusWords(step.cell.status), Number.isFinite(step.cell.end - step.cell.start) ? words.seconds(step.cell.end - step.cell.start) : null, step.cell.cpu ? `CPU ${words.seconds(step.cell.cpu)}` : null].filter(Boolean).join(" · ")} />
          ${step.cell.output ? html`<${Block} label="Output" kind="output" value=${step.cell.output} search=${search} />` : html`<p class="none">No output.</p>`}
          ${step.cell.error && html`<${Block} label="Error" kind="error" value=${step.cell.error} search=${search} />`}`}
        ${step.calls.length > 0 && html`<h4>Calls</h4><ol class="calls">${step.calls.map((call) => html`<${Call} key=${call.call} call=${call} run=${run} search=${search} />`)}</ol>`}
        ${answered.map((each) => html`<p class=${each.allowed ? "note" : "warn"}>${each.allowed ? "Approved" : "Refused"}: ${text.clean(each.name)}${each.reason ? html` – <${Text} text=${each.reason} search=${search} />` : ""}${each.error ? html` – <${Text} text=${each.error} search=${search} />` : ""}</p>`)}
      </div>`}
    </li>`;
  }

  Object.assign(rao, { Step, stepParts: { spent, gist, hit } });
})();
