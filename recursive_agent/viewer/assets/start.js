/* Last: show the page. */
(() => {
  "use strict";
  const { html, render, store, live, App } = rao;

  const app = document.getElementById("app");
  if (store.data.format !== 1) {
    app.textContent = "This page holds data of a newer version than it can show. Make it again with one version of rao.";
    return;
  }
  app.textContent = "";
  store.readAddress();
  live.start();
  render(html`<${App} />`, app);
})();
