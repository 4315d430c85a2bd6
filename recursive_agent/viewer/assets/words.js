/* Statuses, numbers and times in words: the same as `rao trace show` and the live tree of a terminal (LABELS in recursive_agent/status.py). */
(() => {
  "use strict";
  const whole = new Intl.NumberFormat("en-US");

  /** What a status means and who caused it; the words of recursive_agent/status.py. */
  const MEANING = {
    running: "The agent has not ended.",
    finished: "The agent returned a result.",
    step_limit: "The agent used all its model calls without finishing.",
    token_limit: "The agent used all tokens of its share.",
    context_overflow: "The agent's conversation no longer fits the model's context window.",
    malformed: "The model gave too many answers in a row without code.",
    tree_budget: "The agents of the tree together used all tokens.",
    cost_limit: "The agents of the tree together used all the money.",
    tree_timeout: "The run took longer than its timeout.",
    cancelled: "The agent was stopped because its parent ended or the caller cancelled the run.",
    infra_error: "The endpoint or the sandbox failed after every retry; not the agent's fault.",
  };
  const SHARED = new Set(["tree_budget", "cost_limit", "tree_timeout"]);
  const EXTERNAL = new Set(["cancelled", "infra_error"]);

  /** A duration: `0.4 s`, `12 s`, `3:05 min`, `2:00 h`; shorter than 0.1 s in milliseconds. */
  function seconds(value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    if (value > 0 && value < 0.0995) return value < 0.0009995 ? `${Math.round(value * 1e6)} µs` : `${Math.round(value * 1e3)} ms`;
    if (value < 10) return `${value.toFixed(1)} s`;
    if (value < 99.5) return `${value.toFixed(0)} s`;
    const long = value >= 3600;
    const minutes = long ? Math.round(value / 60) : Math.floor(value / 60);
    const two = (number) => String(number).padStart(2, "0");
    return long
      ? `${Math.floor(minutes / 60)}:${two(minutes % 60)} h`
      : `${minutes}:${two(Math.floor(value % 60))} min`;
  }

  /** A whole number with commas; `–` where it is not known. */
  function number(value) {
    return value === null || value === undefined ? "–" : whole.format(value);
  }

  /** `1 agent`, `1,200 agents`. */
  function count(value, noun) {
    return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
  }

  /** A number that need not be whole, in few digits. */
  function decimal(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    if (!Number.isFinite(value)) return String(value);
    return Number.isInteger(value) ? number(value) : String(Number(value.toPrecision(digits)));
  }

  /** Money as the prices' unit has it; `–` where it is not known. */
  function money(value) {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    return value >= 0.01 ? value.toFixed(2) : value.toPrecision(2);
  }

  /** A size in bytes: `812 B`, `1.2 MB`. */
  function bytes(value) {
    if (value === null || value === undefined) return "–";
    const units = ["B", "kB", "MB", "GB"];
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) {
      value /= 1000;
      unit += 1;
    }
    return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
  }

  /** A status as the terminal writes it. */
  function statusWords(status) {
    return String(status ?? "").replaceAll("_", " ");
  }

  /** A status as one character; `kind` names its colour. */
  function mark(status) {
    if (status === "running") return { sign: "●", kind: "running" };
    return status === "finished" ? { sign: "✓", kind: "finished" } : { sign: "✗", kind: "failed" };
  }

  /** What an agent is doing, or how it ended. */
  function state(node, run) {
    if (node.status !== "running") return statusWords(node.status);
    if (run.ended) return "never ended";
    const busy = run.childrenOf(node.id).filter((child) => child.status === "running").length;
    if (busy) return `waits for ${count(busy, "sub-agent")}`;
    const last = node.steps.at(-1);
    return last && last.model.length && !last.cell ? "runs code" : "model call";
  }

  /** One line of a text, at most `width` characters. */
  function oneLine(text, width = 200) {
    const line = String(text ?? "").slice(0, 4 * width).replace(/\s+/g, " ").trim();
    return line.length <= width ? line : `${line.slice(0, width - 1)}…`;
  }

  /** The id of an agent as it is written in a line: that of a deep one without its middle. */
  function agentId(id) {
    const all = String(id ?? "");
    return all.length <= 24 ? all : `${all.slice(0, 8)}…${all.slice(-8)}`;
  }

  /** A moment in the reader's time zone. */
  function moment(epoch) {
    if (epoch === null || epoch === undefined) return "–";
    const date = new Date(epoch * 1000);
    return Number.isNaN(date.getTime()) ? "–" : date.toLocaleString("sv-SE");
  }

  Object.assign(rao, {
    words: { MEANING, SHARED, EXTERNAL, seconds, number, count, decimal, money, bytes, statusWords, mark, state, oneLine, moment, agentId },
  });
})();
