/* The page of training runs: alarms on top, then charts by subject, a step with its figures and traces, and tables.
 *
 * TRAINING is {title, groups, metrics, looks, runs}; see rao_rl/evaluation/training_page.py. */
(() => {
  "use strict";
  const { html, hooks, words, text, parts, store, charts } = rao;
  const { useState, useMemo, useEffect } = hooks;

  const AXES = { step: "optimizer step", tokens: "sampled tokens", seconds: "time of the run" };
  const WINDOWS = { 1: "off", 3: "3 points", 7: "7 points", 15: "15 points", 31: "31 points" };
  const OPEN = 4; // groups that are open at first
  const MOST_ROWS = 400;

  const hasX = (run, axis) => Boolean(run.x[axis]);

  /** Alarms of the runs that are shown, with where they begin and end on the x axis. */
  function placed(runs, axis) {
    return runs.flatMap((run) => run.alarms.map((alarm) => {
      const at = (step) => {
        let index = run.x.step.findIndex((each) => each >= step);
        if (index < 0) index = run.x.step.length - 1;
        return run.x[axis]?.[index] ?? step;
      };
      return { ...alarm, from: at(alarm.step), to: alarm.end === null ? null : at(alarm.end) };
    }));
  }

  /** The charts of a group: with one run all series of a chart together, with several a chart for each series. */
  function chartsOf(training, runs, group) {
    const found = new Map();
    for (const metric of training.metrics) {
      if (metric.group !== group || /^eval\/(success_low|success_high|tasks)\//.test(metric.name)) continue;
      if (!runs.some(({ run }) => run.values[metric.name])) continue;
      const name = runs.length > 1 ? metric.name : metric.chart;
      if (!found.has(name)) found.set(name, { title: runs.length > 1 && metric.series !== metric.label ? `${metric.chart}: ${metric.series}` : metric.chart, unit: metric.unit, metrics: [] });
      found.get(name).metrics.push(metric);
    }
    return [...found.values()];
  }

  function linesOf(chart, training, runs, axis) {
    const lines = [];
    for (const { run, look } of runs) {
      chart.metrics.forEach((metric, place) => {
        const values = run.values[metric.name];
        if (!values || !hasX(run, axis)) return;
        lines.push({
          label: runs.length > 1 ? run.label : metric.series,
          look: runs.length > 1 ? look : training.looks[place % training.looks.length],
          x: run.x[axis],
          values,
          unit: metric.unit,
          low: run.values[metric.low] ?? null,
          high: run.values[metric.high] ?? null,
        });
      });
    }
    return lines;
  }

  /** How many tasks or attempts a chart's figures are of. */
  function countOf(chart, runs) {
    const most = (name) => Math.max(0, ...runs.map(({ run }) => (run.values[name] ?? []).reduce((a, b) => Math.max(a, b ?? 0), 0)));
    const names = [...new Set(chart.metrics.map((metric) => metric.count).filter(Boolean))];
    const counts = names.map(most).filter(Boolean);
    if (chart.metrics.some((metric) => metric.low && runs.some(({ run }) => run.values[metric.low]))) {
      return `${counts.length ? `n = ${[...new Set(counts)].join(" / ")} tasks, ` : ""}band: 95 % interval`;
    }
    if (chart.metrics[0].name !== "reward") return null;
    const last = runs.map(({ run }) => run.values["funnel/rollouts_scored"]?.findLast((value) => value !== null)).filter(Boolean);
    return last.length ? `n = ${[...new Set(last)].join(" / ")} attempts a step` : null;
  }

  function Alarms({ runs, onStep }) {
    const all = runs.flatMap(({ run }) => run.alarms.map((alarm) => ({ ...alarm, run })));
    if (!all.length) return html`<p class="note no-alarms">No alarms: no collapse, no mismatch between sampler and trainer, no dead sampler.</p>`;
    return html`<section class="alarms" aria-labelledby="alarms-title">
      <h2 id="alarms-title">${words.count(all.length, "alarm")}</h2>
      <ul>${all.map((alarm) => html`<li class=${alarm.severity}>
        <button type="button" onClick=${() => onStep(alarm.step)}>${alarm.end === null ? `From step ${words.number(alarm.step)}` : alarm.end === alarm.step ? `Step ${words.number(alarm.step)}` : `Steps ${words.number(alarm.step)} to ${words.number(alarm.end)}`}</button>
        <strong>${alarm.label}</strong>${runs.length > 1 && html` <span class="note">${text.clean(alarm.run.label)}</span>`}
        <p>${text.clean(alarm.text)}</p></li>`)}</ul>
    </section>`;
  }

  function Controls({ runs, hidden, toggle, axis, setAxis, window, setWindow, looks }) {
    const choices = Object.keys(AXES).filter((each) => runs.some((run) => hasX(run, each)));
    return html`<form class="training-controls" aria-label="What the charts show" onSubmit=${(event) => event.preventDefault()}>
      <label>Along the x axis<select value=${axis} onChange=${(event) => setAxis(event.target.value)}>${choices.map((each) => html`<option value=${each} selected=${each === axis}>${AXES[each]}</option>`)}</select></label>
      <label>Running mean<select value=${String(window)} onChange=${(event) => setWindow(Number(event.target.value))}>${Object.entries(WINDOWS).map(([size, label]) => html`<option value=${size} selected=${Number(size) === window}>${label}</option>`)}</select></label>
      ${runs.length > 1 && html`<fieldset><legend class="sr">Runs</legend>${runs.map((run, place) => html`<label class="run"><input type="checkbox" checked=${!hidden.has(place)} onChange=${() => toggle(place)} /><${charts.Key} look=${looks[place % looks.length]} /><span>${text.clean(run.label)}</span></label>`)}</fieldset>`}
    </form>`;
  }

  /** Figures and traces of one step, for those who point at no chart. */
  function Step({ training, runs, step, setStep }) {
    const steps = [...new Set(runs.flatMap(({ run }) => run.x.step))].sort((a, b) => a - b);
    if (!steps.length) return null;
    const at = step ?? steps.at(-1);
    return html`<section class="step-figures" aria-labelledby="step-title">
      <h2 id="step-title">Step ${words.number(at)}</h2>
      <label>Choose a step<input type="number" min=${steps[0]} max=${steps.at(-1)} value=${at} onChange=${(event) => {
        const wanted = Number(event.target.value);
        setStep(steps.reduce((best, each) => (Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best), steps[0]));
      }} /></label>
      <p class="note">Click a chart to choose the step under the cursor.</p>
      ${runs.map(({ run }) => {
        const kept = run.traces.filter((each) => each.step === at);
        return html`<div>${runs.length > 1 && html`<h3>${text.clean(run.label)}</h3>`}
          ${kept.map((each) => html`<p class="traces">${each.skipped ? "Skipped batch" : "Traces"}: ${store.served ? html`<code>${text.clean(each.folder)}</code>` : html`<a href=${each.link}>${text.clean(each.folder)}</a>`} (${words.count(each.files, "tree")}) <${parts.CopyButton} value=${`rao trace view ${each.folder}`} what="the command that shows them" /></p>`)}
          ${!kept.length && html`<p class="note">No traces of this step are kept.</p>`}
        </div>`;
      })}
      <${parts.Fold} label="All figures of this step" level=${3}>${() => html`<div class="table-box" tabindex="0" role="region" aria-label=${`Figures of step ${at}`}><table><thead><tr><th scope="col">metric</th>${runs.map(({ run }) => html`<th scope="col" class="number">${text.clean(run.label)}</th>`)}<th scope="col">unit</th><th scope="col">name</th></tr></thead>
        <tbody>${training.metrics.filter((metric) => runs.some(({ run }) => run.values[metric.name])).map((metric) => html`<tr><th scope="row">${metric.label}</th>${runs.map(({ run }) => html`<td class="number">${charts.shown(run.values[metric.name]?.[run.x.step.indexOf(at)], metric.unit)}</td>`)}<td>${metric.unit}</td><td><code>${metric.name}</code></td></tr>`)}</tbody></table></div>`}</${parts.Fold}>
    </section>`;
  }

  /** The same numbers as the charts of a group. */
  function Table({ training, runs, group }) {
    const metrics = training.metrics.filter((metric) => metric.group === group);
    return runs.map(({ run }) => {
      const own = metrics.filter((metric) => run.values[metric.name]);
      if (!own.length) return null;
      const every = Math.max(1, Math.ceil(run.x.step.length / MOST_ROWS));
      const rows = run.x.step.map((step, at) => [step, at]).filter(([, at]) => at % every === 0 || at === run.x.step.length - 1);
      const name = runs.length > 1 ? `${group}, ${text.clean(run.label)}` : group;
      return html`<div class="table-box" tabindex="0" role="region" aria-label=${`Numbers: ${name}`}><table>
        <caption>${name}${every > 1 && `: every ${every}th step`}</caption>
        <thead><tr><th scope="col" class="number">step</th>${own.map((metric) => html`<th scope="col" class="number">${metric.label}${metric.unit && ` (${metric.unit})`}</th>`)}</tr></thead>
        <tbody>${rows.map(([step, at]) => html`<tr><th scope="row" class="number">${words.number(step)}</th>${own.map((metric) => html`<td class="number">${charts.shown(run.values[metric.name][at], metric.unit)}</td>`)}</tr>`)}</tbody>
      </table></div>`;
    });
  }

  function Group({ training, runs, group, axis, window, alarms, onStep, open }) {
    const found = chartsOf(training, runs, group);
    if (!found.length) return null;
    return html`<${parts.Fold} label=${group} level=${2} open=${open} note=${words.count(found.length, "chart")}>
      <div class="charts">${found.map((chart) => html`<${charts.Chart} key=${chart.title} title=${chart.title} unit=${chart.unit} meaning=${chart.metrics.map((metric) => `${metric.name}: ${metric.meaning}`).slice(0, 3).join("\n")} note=${countOf(chart, runs)}
        lines=${linesOf(chart, training, runs, axis)} alarms=${alarms} x=${{ kind: axis, label: AXES[axis] }} window=${window} range=${chart.unit === "share" ? [-0.02, 1.02] : null} onStep=${onStep} />`)}</div>
      <${parts.Fold} label=${`Numbers: ${group}`} level=${3}>${() => html`<${Table} training=${training} runs=${runs} group=${group} />`}</${parts.Fold}>
    </${parts.Fold}>`;
  }

  /** What a run is and where it stands. */
  function About({ runs }) {
    return html`<ul class="about-runs">${runs.map(({ run }) => {
      const steps = run.x.step.at(-1);
      const facts = [
        steps === undefined ? "no step yet" : words.count(steps, "step"),
        run.x.tokens && `${words.number(run.x.tokens.at(-1))} sampled tokens`,
        run.x.seconds && words.seconds(run.x.seconds.at(-1)),
        run.ended ? "ended" : "not ended",
        ...Object.entries(run.settings).map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`),
      ].filter(Boolean);
      return html`<li><strong>${text.clean(run.label)}</strong> <span class="note">${text.clean(facts.join(" · "))}</span></li>`;
    })}</ul>`;
  }

  function View() {
    const [tick, theme] = store.useStore((s) => [s.tick, s.theme]);
    const training = store.data.training;
    const [axis, setAxis] = useState("step");
    const [window, setWindow] = useState(1);
    const [hidden, setHidden] = useState(new Set());
    const [step, setStep] = useState(null);
    const [, again] = useState(0);
    useEffect(() => {
      const query = matchMedia("(prefers-color-scheme: dark)");
      const change = () => again((n) => n + 1);
      query.addEventListener("change", change);
      return () => query.removeEventListener("change", change);
    }, []);
    const runs = useMemo(() => training.runs.map((run, place) => ({ run, look: training.looks[place % training.looks.length] })).filter((each, place) => !hidden.has(place)), [training, hidden, tick, theme]);
    const alarms = useMemo(() => placed(runs.map(({ run }) => run), axis), [runs, axis]);
    const toggle = (place) => setHidden((now) => {
      const next = new Set(now);
      if (!next.delete(place)) next.add(place);
      return next;
    });
    /** The step at a place on the x axis: of the first run that has one there. */
    const choose = (at) => {
      for (const { run } of runs) {
        const index = run.x[axis]?.indexOf(at) ?? -1;
        if (index >= 0) return setStep(run.x.step[index]);
      }
      return undefined;
    };
    const empty = runs.every(({ run }) => !run.x.step.length);
    return html`<div class="training">
      <${About} runs=${runs} />
      <${Alarms} runs=${runs} onStep=${setStep} />
      <${Controls} runs=${training.runs} hidden=${hidden} toggle=${toggle} axis=${axis} setAxis=${setAxis} window=${window} setWindow=${setWindow} looks=${training.looks} />
      ${empty && html`<p class="none">No step has been written yet${store.served ? ": the page follows the run" : ". Make the page again later"}.</p>`}
      ${training.groups.map((group, place) => html`<${Group} key=${group} training=${training} runs=${runs} group=${group} axis=${axis} window=${window} alarms=${alarms} onStep=${choose} open=${place < OPEN} />`)}
      <${Step} training=${training} runs=${runs} step=${step} setStep=${setStep} />
    </div>`;
  }

  rao.registerView("training", { label: "Training", View });
})();
