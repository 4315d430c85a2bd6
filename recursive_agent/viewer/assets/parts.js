/* Small parts that several views share. */
(() => {
  "use strict";
  const { html, hooks, words, text, Text, store } = rao;
  const { useState, useRef, useLayoutEffect, useEffect } = hooks;

  const SHOWN = 20_000; // characters of a text that are drawn at once

  /** The sign of a status, and its words for a screen reader. */
  function Mark({ status, label = null }) {
    const { sign, kind } = words.mark(status);
    return html`<span class="mark ${kind}" aria-hidden=${label === null ? "true" : null} role=${label === null ? null : "img"} aria-label=${label}>${sign}</span>`;
  }

  function copy(value) {
    if (navigator.clipboard) return navigator.clipboard.writeText(value);
    return Promise.reject(new Error("no clipboard"));
  }

  function CopyButton({ value, what }) {
    const [done, setDone] = useState("");
    useEffect(() => {
      if (!done) return undefined;
      const timer = setTimeout(() => setDone(""), 1500);
      return () => clearTimeout(timer);
    }, [done]);
    const act = () => copy(value).then(() => setDone("Copied"), () => setDone("Not allowed here"));
    return html`<button type="button" class="quiet" onClick=${act} aria-label=${`Copy ${what}`}>${done || "Copy"}</button>`;
  }

  /** A labelled text of any length: a part of it is drawn, around what a search found; the rest on request. */
  function Block({ label, value, kind = "", code = false, search = null, note = null, level = 4 }) {
    const whole = String(value ?? "");
    const [all, setAll] = useState(false);
    let from = 0;
    let to = whole.length;
    if (!all && whole.length > SHOWN * 1.2) {
      to = SHOWN;
      if (search) {
        search.lastIndex = 0;
        const found = search.exec(whole);
        if (found && found.index + found[0].length > SHOWN) {
          from = Math.max(0, found.index - SHOWN / 4);
          to = Math.min(whole.length, from + SHOWN);
        }
      }
    }
    const shown = from === 0 && to === whole.length ? whole : whole.slice(from, to);
    const long = shown.length > 1500 || (shown.match(/\n/g)?.length ?? 0) > 18;
    const Heading = `h${level}`;
    return html`<section class="block ${kind}">
      <div class="block-head"><${Heading}>${label}</${Heading}>${note && html`<span class="note">${note}</span>`}<${CopyButton} value=${whole} what=${String(label).toLowerCase()} /></div>
      <pre class=${code ? "code" : ""} tabindex=${long ? 0 : null} role=${long ? "region" : null} aria-label=${long ? String(label) : null} dir="auto">${from > 0 && html`<span class="cut">… ${words.number(from)} characters before …${"\n"}</span>`}<${Text} text=${shown} search=${search} code=${code} />${to < whole.length && html`<span class="cut">${"\n"}… ${words.number(whole.length - to)} more characters</span>`}</pre>
      ${shown !== whole && html`<button type="button" class="quiet" onClick=${() => setAll(true)}>Show all ${words.number(whole.length)} characters</button>`}
    </section>`;
  }

  /** A part that can be folded away; its content is made when it is first opened. */
  function Fold({ label, note = null, open = false, children, level = 4 }) {
    const [shown, setShown] = useState(open);
    const before = useRef(open);
    if (open !== before.current) {
      before.current = open;
      if (open && !shown) setShown(true);
    }
    const Heading = `h${level}`;
    return html`<section class="fold">
      <${Heading} class="fold-head"><button type="button" aria-expanded=${String(shown)} onClick=${() => setShown(!shown)}>
        <span class="twisty" aria-hidden="true">${shown ? "▾" : "▸"}</span>${label}${note && html`<span class="note">${note}</span>`}
      </button></${Heading}>
      ${shown && html`<div class="fold-body">${typeof children === "function" ? children() : children}</div>`}
    </section>`;
  }

  /** Rows of one height in a box that scrolls: only those that are seen are drawn. `row(item, index)` draws one. */
  function useWindow(count, height, box, there = true) {
    const [view, setView] = useState({ top: 0, height: 600 });
    const measure = () => {
      const element = box.current;
      if (!element) return;
      const next = { top: element.scrollTop, height: element.clientHeight };
      setView((now) => (now.top === next.top && now.height === next.height ? now : next));
    };
    useLayoutEffect(() => {
      const element = box.current;
      if (!element) return undefined;
      measure();
      const watch = new ResizeObserver(measure);
      watch.observe(element);
      element.addEventListener("scroll", measure, { passive: true });
      return () => {
        watch.disconnect();
        element.removeEventListener("scroll", measure);
      };
    }, [there]);
    const first = Math.max(0, Math.min(count, Math.floor(view.top / height) - 6));
    const last = Math.min(count, Math.ceil((view.top + view.height) / height) + 6);
    return { first, last, top: view.top, height: view.height };
  }

  /** Scroll a box so that a row is seen. */
  function reveal(element, index, height) {
    if (!element) return;
    const top = index * height;
    if (top < element.scrollTop) element.scrollTop = Math.max(0, top - height);
    else if (top + height > element.scrollTop + element.clientHeight) element.scrollTop = top + 2 * height - element.clientHeight;
  }

  /** What a usage says, as pairs of a name and a number; nothing where the endpoint did not say. */
  function usageFacts(usage) {
    if (!usage) return [["Tokens", "not reported"]];
    return [
      ["Prompt tokens", words.number(usage.prompt)],
      ["of them cached", words.number(usage.cached)],
      ["Completion tokens", words.number(usage.completion)],
      ["of them reasoning", words.number(usage.reasoning)],
      ["Cost", words.money(usage.cost)],
    ].filter(([, value]) => value !== "–");
  }

  /** The usage of one call in words. */
  function usageWords(usage) {
    if (!usage) return ["tokens not reported"];
    const known = (value, words_) => (value === null || value === undefined ? null : words_(value));
    return [
      known(usage.prompt, (value) => `prompt ${words.number(value)} tokens${usage.cached ? ` (${words.number(usage.cached)} cached)` : ""}`),
      known(usage.completion, (value) => `completion ${words.number(value)} tokens${usage.reasoning ? ` (${words.number(usage.reasoning)} reasoning)` : ""}`),
      known(usage.cost, (value) => `cost ${words.money(value)}`),
    ];
  }

  function Facts({ facts }) {
    return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
  }

  /** A link to an agent, and to a step of it; it works as an address too. */
  function NodeLink({ id, step = null, children }) {
    const at = store.get();
    const run = store.data.kind !== "run" && at.run ? `run=${encodeURIComponent(at.run)}&` : "";
    const href = `#${run}node=${encodeURIComponent(id)}${step ? `&step=${step}` : ""}`;
    const act = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      store.select(id, step);
    };
    return html`<a href=${href} onClick=${act}>${children ?? (step ? `${words.agentId(id)}, step ${step}` : words.agentId(id))}</a>`;
  }

  Object.assign(rao, { parts: { Mark, Block, Fold, CopyButton, useWindow, reveal, usageFacts, usageWords, Facts, NodeLink } });
})();
