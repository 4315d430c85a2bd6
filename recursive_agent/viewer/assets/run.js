/* One run as the views need it: nodes by id, children in launch order, sums over what lies below each node. */
(() => {
  "use strict";

  const launchNumber = (id) => Number(id.slice(id.lastIndexOf(".") + 1)) || 0;

  class Run {
    constructor(data) {
      this.id = data.id;
      this.version = 0;
      this.nodes = new Map();
      this.writing = false;
      this.take({ head: data, nodes: data.nodes ?? [], whole: true });
    }

    /** Nodes and head as they are now: of a page that is opened, or of a run that goes on. */
    take({ head, nodes, whole = false, writing = null }) {
      if (head) this.head = whole ? head : { ...this.head, ...head };
      if (whole) this.nodes = new Map();
      if (writing !== null) this.writing = writing;
      for (const node of nodes) this.nodes.set(node.id, node);
      this.version += 1;
      this.arrange();
    }

    arrange() {
      this.children = new Map();
      this.roots = [];
      for (const node of this.nodes.values()) {
        if (node.parent === null || node.parent === undefined || !this.nodes.has(node.parent)) this.roots.push(node);
        else if (this.children.has(node.parent)) this.children.get(node.parent).push(node);
        else this.children.set(node.parent, [node]);
      }
      for (const list of this.children.values()) list.sort((a, b) => launchNumber(a.id) - launchNumber(b.id));
      this.order = [];
      const waiting = [...this.roots].reverse();
      while (waiting.length) {
        const node = waiting.pop();
        this.order.push(node);
        for (const child of [...this.childrenOf(node.id)].reverse()) waiting.push(child);
      }
      this.sums = new Map();
      this.deepest = 0;
      let end = 0;
      for (const node of [...this.order].reverse()) {
        const sum = { agents: 1, failed: node.status !== "running" && node.status !== "finished" ? 1 : 0, running: node.status === "running" ? 1 : 0, tokens: node.usage?.total ?? 0, cost: node.usage?.cost ?? 0 };
        for (const child of this.childrenOf(node.id)) {
          const below = this.sums.get(child.id);
          for (const key of Object.keys(sum)) sum[key] += below[key];
        }
        this.sums.set(node.id, sum);
        this.deepest = Math.max(this.deepest, node.depth ?? 0);
        end = Math.max(end, node.ended ?? 0, node.started ?? 0);
      }
      this.end = Math.max(this.head.duration ?? 0, end, 1e-6);
      this.critical = new Map();
      for (const part of this.head.critical_path?.parts ?? []) {
        if (this.critical.has(part.node)) this.critical.get(part.node).push(part);
        else this.critical.set(part.node, [part]);
      }
    }

    childrenOf(id) {
      return this.children.get(id) ?? [];
    }

    get root() {
      return this.roots[0] ?? null;
    }

    /** Whether nothing more will come: the run has ended, or the process that wrote it is gone. */
    get ended() {
      return Boolean(this.head.complete) || !this.writing;
    }

    get status() {
      return this.root?.status ?? this.head.status ?? "running";
    }

    endOf(node) {
      return node.ended ?? this.end;
    }

    /** From the root to a node. */
    path(id) {
      const found = [];
      for (let node = this.nodes.get(id); node && found.length < 10_000; node = this.nodes.get(node.parent)) found.push(node);
      return found.reverse();
    }

    /** The rows of a tree of which some nodes are folded. */
    rows(folded) {
      const found = [];
      const waiting = [...this.roots].reverse();
      while (waiting.length) {
        const node = waiting.pop();
        found.push(node);
        if (folded.has(node.id)) continue;
        const below = this.childrenOf(node.id);
        for (let i = below.length - 1; i >= 0; i -= 1) waiting.push(below[i]);
      }
      return found;
    }

    /** The step of a node with this number, or null. */
    stepOf(node, number) {
      return node.steps.find((step) => step.number === number) ?? null;
    }

    /** From when to when a step went. */
    span(step) {
      const all = [...step.model, ...(step.cell ? [step.cell] : []), ...step.calls];
      const starts = all.map((part) => part.start).filter((time) => time !== null && time !== undefined);
      const ends = all.map((part) => part.end).filter((time) => time !== null && time !== undefined);
      return starts.length ? { start: Math.min(...starts), end: Math.max(...ends, ...starts) } : null;
    }
  }

  Object.assign(rao, { Run });
})();
