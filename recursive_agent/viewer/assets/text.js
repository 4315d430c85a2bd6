/* Text from a trace, cut into pieces that are safe to show: characters that do not show themselves become visible, what a
 * search found is marked, code is coloured a little. Nothing here makes markup: pieces are text nodes with a class. */
(() => {
  "use strict";
  const { html } = rao;

  // Controls but for tab and newline, marks of direction, invisible separators and lone surrogates.
  const HIDDEN =
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udfff]/g;

  /** A character that does not show itself, as its code: `\x1b`, `\u202e`. */
  function visible(character) {
    const code = character.codePointAt(0);
    if (code < 256) return `\\x${code.toString(16).padStart(2, "0")}`;
    return code < 65536 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
  }

  /** A text in one string, safe as a label or title. */
  function clean(text) {
    return String(text ?? "").replace(HIDDEN, visible);
  }

  // Whatever a view puts into an element as a text or a label is cleaned here, should the view have forgotten to.
  const before = globalThis.preact.options.vnode;
  globalThis.preact.options.vnode = (vnode) => {
    if (typeof vnode.type === "string") {
      const { props } = vnode;
      for (const name of ["title", "aria-label"]) if (typeof props[name] === "string") props[name] = clean(props[name]);
      if (typeof props.children === "string") props.children = clean(props.children);
      else if (Array.isArray(props.children)) props.children = props.children.map((child) => (typeof child === "string" ? clean(child) : child));
    }
    before?.(vnode);
  };

  /** The regular expression of a search; null where nothing is searched for. */
  function pattern(query) {
    const wanted = (query ?? "").trim();
    if (!wanted) return null;
    return new RegExp(wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\s+/g, "\\s+"), "gi");
  }

  const PYTHON = new RegExp(
    [
      "(?<comment>#[^\\n]*)",
      "(?<string>\\b[rRbBfFuU]{0,2}(?:'''[\\s\\S]*?(?:'''|$)|\"\"\"[\\s\\S]*?(?:\"\"\"|$)|'(?:\\\\.|[^'\\\\\\n])*'?|\"(?:\\\\.|[^\"\\\\\\n])*\"?)" +
        "|'''[\\s\\S]*?(?:'''|$)|\"\"\"[\\s\\S]*?(?:\"\"\"|$)|'(?:\\\\.|[^'\\\\\\n])*'?|\"(?:\\\\.|[^\"\\\\\\n])*\"?)",
      "(?<number>\\b\\d[\\w.]*)",
      "(?<host>\\b(?:launch_subagent|finish)\\b)",
      "(?<keyword>\\b(?:False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|match|case)\\b)",
    ].join("|"),
    "g",
  );

  /** Pieces of code with a class each; one without where the text is too long to look at. */
  function tokens(code) {
    if (code.length > 60_000) return [{ text: code, kind: "" }];
    const pieces = [];
    let at = 0;
    for (const found of code.matchAll(PYTHON)) {
      if (found.index > at) pieces.push({ text: code.slice(at, found.index), kind: "" });
      const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
      pieces.push({ text: found[0], kind });
      at = found.index + found[0].length;
    }
    if (at < code.length) pieces.push({ text: code.slice(at), kind: "" });
    return pieces;
  }

  function withHidden(text, out, kind) {
    let at = 0;
    const put = (piece) => out.push(kind ? html`<span class=${kind}>${piece}</span>` : piece);
    for (const found of text.matchAll(HIDDEN)) {
      if (found.index > at) put(text.slice(at, found.index));
      out.push(html`<span class="hidden-character" title="A character that does not show itself">${visible(found[0])}</span>`);
      at = found.index + found[0].length;
    }
    if (at < text.length) put(at ? text.slice(at) : text);
  }

  function withMarks(text, search, out, kind) {
    if (!search) return withHidden(text, out, kind);
    let at = 0;
    for (const found of text.matchAll(search)) {
      if (!found[0]) continue;
      if (found.index > at) withHidden(text.slice(at, found.index), out, kind);
      const inside = [];
      withHidden(found[0], inside, kind);
      out.push(html`<mark>${inside}</mark>`);
      at = found.index + found[0].length;
    }
    if (at < text.length) withHidden(text.slice(at), out, kind);
  }

  /** A text as nodes of the page. */
  function Text({ text, search = null, code = false }) {
    const out = [];
    if (code && !search) for (const piece of tokens(text)) withHidden(piece.text, out, piece.kind && `py-${piece.kind}`);
    else withMarks(String(text ?? ""), search, out, "");
    return html`${out}`;
  }

  Object.assign(rao, { text: { clean, pattern, tokens, visible }, Text });
})();
