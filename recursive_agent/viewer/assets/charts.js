/* Line charts of the training page: uPlot with the looks that the data name, alarms as bands, and values under the cursor.
 *
 * A chart is drawn while it is in view, or nearly so: what is far away costs nothing. What it shows is in `figures` below it and in the tables: the canvas itself is
 * hidden from screen readers. */
(() => {
  "use strict";
  const { html, hooks, words, store } = rao;
  const { useEffect, useRef, useState } = hooks;
  const HEIGHT = 190;

  /** Whether the page is dark now. */
  function isDark() {
    const theme = store.get().theme;
    return theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  }

  /** A number with the unit of its metric. */
  function shown(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "s") return words.seconds(value);
    if (Math.abs(value) >= 1000) return words.number(Math.round(value));
    return words.decimal(value, 4);
  }

  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  function tick(value) {
    if (value === null) return "";
    if (Math.abs(value) >= 10_000) return short.format(value);
    return String(Number(value.toPrecision(6))).replace("-", "−");
  }

  /** Mean over the `window` known points around each known point; at the ends over those that exist. */
  function smooth(values, window) {
    if (window < 2) return values;
    const known = [];
    values.forEach((value, at) => value !== null && known.push(at));
    const half = window >> 1;
    const sums = [0];
    for (const at of known) sums.push(sums.at(-1) + values[at]);
    const result = values.map(() => null);
    known.forEach((at, place) => {
      const from = Math.max(0, place - half);
      const to = Math.min(known.length, place + half + 1);
      result[at] = (sums[to] - sums[from]) / (to - from);
    });
    return result;
  }

  /** x values and one column for each line, whose points may stand at different x. */
  function joined(lines) {
    const xs = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, at) => [x, at]));
    const columns = lines.flatMap((line) => line.columns.map((values) => {
      const column = new Array(xs.length).fill(null);
      line.x.forEach((x, at) => {
        if (values[at] !== null && values[at] !== undefined) column[place.get(x)] = values[at];
      });
      return column;
    }));
    return [xs, ...columns];
  }

  /** The value of a column at a point or, where it has none, at the one before; null after its end, but for `last`. */
  function valueAt(column, at, last) {
    if (!last && column.slice(at).every((value) => value === null)) return null;
    for (let i = at; i >= 0; i -= 1) if (column[i] !== null) return column[i];
    return null;
  }

  /** The columns of a line: its smoothed and its raw values, and the ends of its interval. */
  function columnsOf(line, window) {
    const columns = [smooth(line.values, window)];
    if (window > 1) columns.push(line.values);
    if (line.low) columns.push(line.low, line.high);
    return columns;
  }

  /** The series of uPlot for these lines, and the bands between their ends. */
  function seriesOf(lines, window, dark) {
    const series = [{}];
    const bands = [];
    for (const line of lines) {
      const colour = dark ? line.look.dark : line.look.colour;
      const few = line.values.filter((value) => value !== null).length <= 40;
      series.push({ label: line.label, stroke: colour, width: 1.8, dash: line.look.dash.map((each) => each * 1.6), spanGaps: true, points: { show: few, size: 5, fill: colour } });
      if (window > 1) series.push({ stroke: `${colour}55`, width: 1, spanGaps: true, points: { show: false } });
      if (line.low) {
        bands.push({ series: [series.length + 1, series.length], fill: `${colour}30` });
        const end = { stroke: `${colour}00`, width: 0, spanGaps: true, points: { show: false } };
        series.push(end, { ...end });
      }
    }
    return { series, bands };
  }

  /** Alarms as bands behind the lines; with `named`, their names at the top instead, before the lines. */
  function drawAlarms(plot, alarms, named) {
    const { ctx, bbox } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    const ends = [];
    for (const alarm of alarms) {
      const from = plot.valToPos(alarm.from, "x", true);
      const to = alarm.to === null ? bbox.left + bbox.width : plot.valToPos(alarm.to, "x", true);
      const width = Math.max(3 * ratio, to - from);
      if (from + width < bbox.left || from > bbox.left + bbox.width) continue;
      const ink = rao.colour(alarm.severity === "error" ? "alarm-error-ink" : "alarm-warning-ink");
      if (!named) {
        ctx.fillStyle = rao.colour(alarm.severity === "error" ? "alarm-error" : "alarm-warning");
        ctx.fillRect(from, bbox.top, width, bbox.height);
        ctx.fillStyle = ink;
        ctx.fillRect(from, bbox.top, Math.max(1, ratio), bbox.height);
        continue;
      }
      // Labels that would lie upon each other stand below each other.
      const size = ctx.measureText(alarm.label).width;
      const left = Math.max(bbox.left + 3 * ratio, Math.min(from + 4 * ratio, bbox.left + bbox.width - size - 3 * ratio));
      let row = ends.findIndex((end) => end < left);
      if (row < 0) row = ends.length;
      ends[row] = left + size + 6 * ratio;
      if (row > 2) continue;
      const top = bbox.top + (1 + 14 * row) * ratio;
      ctx.fillStyle = rao.colour("veil");
      ctx.fillRect(left - 2 * ratio, top, size + 4 * ratio, 13 * ratio);
      ctx.fillStyle = ink;
      ctx.fillText(alarm.label, left, top + ratio);
    }
    ctx.restore();
  }

  function options({ lines, window, alarms, range, x, width, dark, onCursor, onClick }) {
    const { series, bands } = seriesOf(lines, window, dark);
    const axis = { stroke: () => rao.colour("muted"), grid: { stroke: () => rao.colour("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", labelFont: "11px system-ui, sans-serif" };
    const xValues = (plot, splits) => splits.map((value) => (x().kind === "seconds" ? words.seconds(value) : x().kind === "step" && !Number.isInteger(value) ? "" : tick(value)));
    return {
      width,
      height: HEIGHT,
      legend: { show: false },
      scales: {
        x: { time: false, range: (plot, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) },
        y: { range: (plot, low, high) => span(low, high, range) },
      },
      series,
      bands,
      axes: [
        { ...axis, values: xValues, label: () => x().label, labelSize: 18, size: 30, space: 60, grid: { show: false } },
        { ...axis, values: (plot, splits) => splits.map(tick), size: 54, space: 32 },
      ],
      cursor: { sync: { key: "training" }, y: false, drag: { x: true, y: false }, points: { size: 7 } },
      hooks: {
        drawClear: [(plot) => drawAlarms(plot, alarms(), false)],
        draw: [(plot) => drawAlarms(plot, alarms(), true)],
        setCursor: [(plot) => onCursor(plot, plot.cursor.idx)],
        ready: [(plot) => plot.over.addEventListener("click", () => plot.cursor.idx !== null && onClick(plot.data[0][plot.cursor.idx]))],
      },
    };
  }

  /** The ends of the y axis. Values that differ by less than a thousandth are a flat line, not noise blown up. */
  function span(low, high, range) {
    if (range) return range;
    if (low === null) return [0, 1];
    if (low === 0 && high === 0) return [0, 1];
    const middle = (low + high) / 2;
    const least = 2e-3 * Math.abs(middle) || 1e-12;
    if (high - low < least) return [middle - least, middle + least];
    return uPlot.rangeNum(low, high, 0.08, true);
  }

  /** A chart of `lines`: each {label, look, x, values, low, high, unit, drawn}. */
  function Chart({ title, unit, note, lines, alarms, x, window, range, meaning, onStep }) {
    const box = useRef(null);
    const values = useRef(null);
    const plot = useRef(null);
    const now = useRef(null);
    const [inView, setInView] = useState(false);
    const drawn = useRef(null); // the shape of the plot as it was drawn
    const [theme] = store.useStore((s) => [s.theme]);
    const [width, setWidth] = useState(0);
    now.current = { alarms, lines, onStep, x };
    const shape = !inView ? drawn.current : JSON.stringify([lines.map((line) => [line.label, line.look.colour, Boolean(line.low)]), window > 1, theme, range, isDark()]);
    const data = () => joined(lines.map((line) => ({ x: line.x, columns: columnsOf(line, window) })));

    const report = (plotted, at) => {
      const [xs, ...columns] = plotted.data;
      const each = (window > 1 ? 2 : 1);
      const index = at ?? xs.length - 1;
      if (!values.current || index < 0) return;
      let column = 0;
      const parts = now.current.lines.map((line) => {
        const value = valueAt(columns[column], index, at === null);
        column += each + (line.low ? 2 : 0);
        return [line, value];
      });
      const along = now.current.x;
      values.current.querySelector(".at").textContent = `${along.label} ${along.kind === "seconds" ? words.seconds(xs[index]) : words.number(xs[index])}`;
      parts.forEach(([line, value], place) => {
        const item = values.current.querySelector(`[data-line="${place}"]`);
        if (item) item.textContent = shown(value, line.unit);
      });
    };

    useEffect(() => {
      const observer = new IntersectionObserver((entries) => setInView(entries.at(-1).isIntersecting), { rootMargin: "200px" });
      const size = new ResizeObserver(() => box.current && setWidth(box.current.clientWidth));
      observer.observe(box.current);
      size.observe(box.current);
      return () => {
        observer.disconnect();
        size.disconnect();
      };
    }, []);

    useEffect(() => {
      if (shape === null || !width) return undefined;
      drawn.current = shape;
      plot.current = new uPlot(
        options({
          lines, window, range, width, dark: isDark(), x: () => now.current.x,
          alarms: () => now.current.alarms, onCursor: report, onClick: (at) => now.current.onStep(at),
        }),
        data(),
        box.current,
      );
      report(plot.current, null);
      return () => {
        plot.current.destroy();
        plot.current = null;
      };
    }, [width > 0, shape]);

    useEffect(() => {
      if (plot.current && width && plot.current.width !== width) plot.current.setSize({ width, height: HEIGHT });
    }, [width]);

    useEffect(() => {
      if (!plot.current || !inView) return;
      plot.current.setData(data());
      report(plot.current, plot.current.cursor.idx);
    });

    return html`<figure class="chart">
      <figcaption><span class="chart-title" title=${meaning}>${title}${unit && html` <span class="unit">(${unit})</span>`}</span>${note && html`<span class="note">${note}</span>`}</figcaption>
      <div class="plot" ref=${box} aria-hidden="true"></div>
      <div class="values" ref=${values}><span class="at"></span>${lines.map((line, place) => html`<span class="value"><${Key} look=${line.look} />${lines.length > 1 && html`<span>${line.label}</span>`}<b data-line=${place}></b></span>`)}</div>
    </figure>`;
  }

  /** The colour and dashes of a line. */
  function Key({ look }) {
    return html`<svg class="key" width="24" height="8" aria-hidden="true" focusable="false"><line x1="0" x2="24" y1="4" y2="4" stroke=${isDark() ? look.dark : look.colour} stroke-width="2.5" stroke-dasharray=${look.dash.length ? look.dash.join(" ") : "none"} /></svg>`;
  }

  Object.assign(rao, { charts: { Chart, Key, smooth, joined, shown } });
})();
