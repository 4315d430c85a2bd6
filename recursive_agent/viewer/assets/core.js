/* The page of the trace viewer. Every file is a classic script in a function of its own, in the order of page.html; what
 * others use of it hangs on the one global `rao`.
 *
 * A VIEW OF A KIND OF PAGE registers itself (see folder.js for one):
 *
 *     rao.registerView("training", { label: "Training", View });
 *
 * `View` is a Preact component; it gets `{ data }`, the whole DATA of the page, and fills the main area under the header.
 * It is shown for DATA.kind === "training", and as a tab beside others where DATA has a part of that name. It draws with
 * `rao.html` (htm bound to Preact: what stands in ${…} is text, never markup), `rao.hooks` (useState …), the parts of
 * parts.js, the words and numbers of words.js, and the colours of base.css (`rao.colour("model")` for a canvas).
 * Styles are classes or `style=${{…}}` objects: the content policy of the page refuses style attributes in markup.
 */
(() => {
  "use strict";
  const { h, render, Fragment } = globalThis.preact;

  const views = new Map();

  globalThis.rao = {
    html: globalThis.htm.bind(h),
    render,
    Fragment,
    hooks: globalThis.preactHooks,
    views,
    registerView(kind, view) {
      views.set(kind, view);
    },
    /** A colour of base.css by its name, as a canvas takes it. */
    colour(name) {
      return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    },
  };
})();
