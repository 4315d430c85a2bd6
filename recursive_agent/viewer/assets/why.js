/* Why a run did not finish: the chain of agents from the root to the one at which it was decided. */
(() => {
  "use strict";
  const { words } = rao;

  const failed = (node) => node.status !== "finished" && node.status !== "running";

  /** Of the children of a node that did not finish, the one that has most to do with it; null where none has. */
  function deciding(run, node) {
    const children = run.childrenOf(node.id);
    if (node.status === "running") {
      const busy = children.filter((child) => child.status === "running");
      return busy.sort((a, b) => b.started - a.started)[0] ?? null;
    }
    const candidates = children.filter((child) => failed(child));
    const same = candidates.filter((child) => child.status === node.status);
    if (words.SHARED.has(node.status) || node.status === "infra_error") {
      // Who used up what all share, or met the fault: the one that ended first with the status of the whole.
      return same.sort((a, b) => a.ended - b.ended)[0] ?? null;
    }
    // Children that were stopped because their parent ended are a consequence.
    const causes = candidates.filter((child) => child.status !== "cancelled");
    return causes.sort((a, b) => (b.ended ?? 0) - (a.ended ?? 0))[0] ?? null;
  }

  /** The last thing that went wrong in a node: its step, what it was, and its last line. */
  function lastFault(node) {
    for (let i = node.steps.length - 1; i >= 0 && i >= node.steps.length - 3; i -= 1) {
      const step = node.steps[i];
      if (step.cell?.error) return { step: step.number, what: "error of its code", line: lastLine(step.cell.error) };
      const call = [...step.calls].reverse().find((each) => each.error);
      if (call) return { step: step.number, what: `error of ${call.name}`, line: lastLine(call.error) };
    }
    const last = node.steps.at(-1);
    if (!last) return null;
    if (last.cell) return { step: last.number, what: "last output", line: lastLine(last.cell.output) || "(nothing)" };
    const answer = last.model.at(-1);
    const what = node.status === "running" && answer ? "its code had not ended" : "last answer";
    return { step: last.number, what, line: answer ? lastLine(answer.text) || "(empty)" : "(none)" };
  }

  function lastLine(text) {
    const lines = String(text ?? "").slice(-4000).split("\n").map((line) => line.trim()).filter((line) => line && !/^(```|~~~)\w*$/.test(line));
    return lines.at(-1) ?? "";
  }

  /** What to say of a run that did not finish; null where its root returned a result. */
  function why(run) {
    const root = run.root;
    if (!root) return { title: "The run stopped before its first agent was started.", chain: [], counts: [], meaning: "" };
    if (root.status === "finished") return null;
    const killed = root.status === "running";
    if (killed && !run.ended) return null;
    const chain = [];
    for (let node = root; node && chain.length < 10_000; node = deciding(run, node)) {
      chain.push({ node, words: words.state(node, run), reason: node.reason, fault: lastFault(node) });
    }
    const counts = new Map();
    for (const node of run.order) {
      if (node !== root && node.status !== "finished") counts.set(words.state(node, run), (counts.get(words.state(node, run)) ?? 0) + 1);
    }
    return {
      title: killed ? "The run never ended: its process was stopped, or its trace is cut off." : `Did not finish: ${words.statusWords(root.status)}`,
      meaning: killed ? "" : words.MEANING[root.status] ?? "",
      chain,
      counts: [...counts].sort((a, b) => b[1] - a[1]),
    };
  }

  Object.assign(rao, { why: { why, failed, lastFault, lastLine } });
})();
