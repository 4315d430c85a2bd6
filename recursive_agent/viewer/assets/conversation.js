/* The conversation of an agent as each model call was sent it: a trace holds only the messages added since the call before. */
(() => {
  "use strict";

  /** Summaries that led to nothing: they failed or the run was resumed, and the next call went on with the old conversation. */
  function unused(step, call) {
    if (call.purpose !== "summary") return false;
    const own = step.model.find((each) => each.purpose !== "summary");
    return Boolean(own) && !own.restart;
  }

  /** All messages that a model call was sent: `{ messages, added }`, of which the last `added` are new with this call. */
  function sent(node, number, index) {
    let messages = [];
    for (const step of node.steps) {
      for (let i = 0; i < step.model.length; i += 1) {
        const call = step.model[i];
        const here = step.number === number && i === index;
        if (!here && unused(step, call)) continue;
        const added = call.messages ?? [];
        messages = call.restart ? [...added] : [...messages, ...added];
        if (here) return { messages, added: added.length };
        messages.push({ role: "assistant", content: call.text ?? "", tool_calls: call.tool_calls ?? [], reasoning: null });
      }
    }
    return { messages: [], added: 0 };
  }

  /** What an answer says beside its code: its text without the block that was run. */
  function beside(text, code) {
    if (!text) return "";
    if (!code) return text;
    const at = text.indexOf(code.trim());
    if (at < 0) return text;
    const before = text.slice(0, at).replace(/(?:```|~~~)[\w+-]*[ \t]*\n?$/, "").replace(/<code>\s*$/, "");
    const after = text.slice(at + code.trim().length).replace(/^\s*(?:```|~~~)[ \t]*\n?/, "").replace(/^\s*<\/code>/, "");
    return [before.trim(), after.trim()].filter(Boolean).join("\n\n");
  }

  Object.assign(rao, { conversation: { sent, beside } });
})();
