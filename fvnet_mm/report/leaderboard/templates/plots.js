// Accuracy against cost, and the page's colours, which the plots share.

const probe = element("i", { hidden: true });
document.body.append(probe);
const colour = (name) => {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
};

// plotly reads a little HTML in its texts.
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const wrapped = (text, width = 60) => plain(text).replace(new RegExp(`(.{1,${width}})(?:\\s+|$)`, "g"), "$1<br>");

let plotly = null;

/** Starts plotly, once. */
function startPlotly() {
  plotly ??= library("plotly").then(() => globalThis.Plotly);
  return plotly;
}

/** What hovering over a point shows. */
function describe(row, metric, cost, value) {
  const score = row.metrics[metric];
  const behind = row.runs.slice(0, 3).map(({ record, seed }) => `${record}${seed === null ? "" : `, seed ${seed}`}`);
  if (row.runs.length > behind.length) behind.push(`and ${row.runs.length - behind.length} more`);
  return [
    `<b>${plain(row.label)}</b> (${row.provenance}${row.pretraining ? `, ${plain(row.pretraining)}` : ""})`,
    `${plain(metric)} ${score.mean.toFixed(2)} ${plain(score.detail)}`,
    `${cost.text}: ${value.toLocaleString("en")} ${cost.dataset.unit}`,
    ...[...behind, ...(row.source ? [row.source] : [])].map((text) => wrapped(text)),
    "<i>click: the whole record</i>",
  ].join("<br>").replaceAll("<br><br>", "<br>");
}

/** Ticks of a logarithmic axis at 1, 2 and 5; plotly's own leave the leading digits away. */
function logTicks(lowest, highest) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(lowest)); power <= Math.ceil(Math.log10(highest)); power += 1) {
    for (const digit of highest / lowest > 1e3 ? [1] : [1, 2, 5]) ticks.push(Number(`${digit}e${power}`));
  }
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => tick.toLocaleString("en", { maximumFractionDigits: 9 })) };
}

async function draw(figure) {
  const Plotly = await startPlotly();
  const board = boards[figure.dataset.table];
  const [cost] = figure.querySelector(".cost-choice").selectedOptions;
  const metric = figure.querySelector(".metric-choice").value;
  const plot = figure.querySelector(".plot");
  const { measured, published, front, condition, left_out } = board.charts[cost.value][metric];
  const onFront = new Set(front);
  const costs = new Map([...measured, ...published]);
  const [lowest, highest] = [Math.min(...costs.values()), Math.max(...costs.values())];
  const logarithmic = lowest > 0 && highest > 30 * lowest;
  const [ink, paper, quiet, rule, accent] = ["ink", "paper", "quiet", "rule", "accent"].map(colour);
  const mean = (place) => board.rows[place].metrics[metric].mean;
  const means = [...costs.keys()].map(mean);
  const room = 0.12 * (Math.max(...means) - Math.min(...means)); // for names above and below

  const series = (name, points, marker, ink) => ({
    name,
    type: "scatter",
    mode: "markers+text",
    x: points.map(([, value]) => value),
    y: points.map(([place]) => mean(place)),
    textfont: { size: 11, color: ink },
    customdata: points.map(([place]) => ({ id: board.rows[place].id, front: onFront.has(place) })),
    hovertext: points.map(([place, value]) => describe(board.rows[place], metric, cost, value)),
    hoverinfo: "text",
    error_y: {
      type: "data",
      array: points.map(([place]) => board.rows[place].metrics[metric].std ?? 0),
      visible: points.some(([place]) => board.rows[place].metrics[metric].std),
      thickness: 1.2, width: 4, color: quiet,
    },
    cliponaxis: false,
    marker,
  });
  const own = [["measured", "circle"], ["imported", "square"]].map(([kind, symbol]) => {
    const points = measured.filter(([place]) => board.rows[place].provenance === kind);
    const color = points.map(([place]) => (onFront.has(place) ? accent : paper));
    return series(kind, points, { symbol, size: 10, color, line: { color: accent, width: 2 } }, ink);
  });
  const traces = [
    {
      name: "Pareto front", type: "scatter", mode: "lines", hoverinfo: "skip",
      x: front.map((place) => costs.get(place)), y: front.map(mean),
      line: { shape: "hv", color: accent, width: 1.5, dash: "dot" },
    },
    ...own,
    series("published", published, { symbol: "diamond-open", size: 8, color: quiet, line: { width: 1.5 } }, quiet),
  ].filter((trace) => trace.x.length);

  const line = { gridcolor: rule, linecolor: quiet, zeroline: false, automargin: true };
  await Plotly.react(plot, traces, {
    paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    font: { family: "system-ui, sans-serif", size: 13, color: ink },
    margin: { l: 55, r: 15, t: 40, b: 50 },
    xaxis: {
      ...line,
      title: { text: `${cost.text} (${cost.dataset.unit})`, standoff: 12 },
      ...(logarithmic ? { type: "log", ...logTicks(lowest, highest) } : { type: "linear" }),
    },
    yaxis: {
      ...line,
      title: { text: `${plain(metric)} (%)`, standoff: 10 },
      autorangeoptions: { include: [Math.min(...means) - room, Math.max(...means) + room] },
    },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    showlegend: true,
    hovermode: "closest", hoverlabel: { align: "left", bgcolor: paper, bordercolor: quiet, font: { family: "system-ui, sans-serif", color: ink } },
    dragmode: false,
    modebar: { bgcolor: "transparent", color: quiet, activecolor: ink },
  }, {
    displaylogo: false, responsive: true,
    displayModeBar: matchMedia("(hover: hover)").matches && "hover",
    modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]],
    toImageButtonOptions: { format: "svg", filename: "accuracy-against-cost" },
  });
  if (!figure.dataset.drawn) {
    plot.on("plotly_click", ({ points }) => points[0].customdata && showRecord(points[0].customdata.id));
    plot.on("plotly_relayout", () => namePoints(Plotly, plot));
    figure.dataset.drawn = "yes";
  }
  await namePoints(Plotly, plot);
  const unknown = board.rows.filter((row) => metric in row.metrics).length - costs.size - left_out;
  figure.querySelector("figcaption").textContent = [
    `${metric} against ${cost.text[0].toLowerCase()}${cost.text.slice(1)}${condition ? `, ${condition}` : ""}.`,
    measured.length ? "Filled: on the Pareto front of the measured rows." : "No measured row has both numbers.",
    unknown ? `${unknown} without a known cost.` : "",
    left_out ? `Left out, since their costs were counted or measured under other conditions or do not say under which: ${left_out}.` : "",
  ].filter(Boolean).join(" ");
}

// --- Names beside points ------------------------------------------------------------------------------------------

const SIDES = ["top left", "bottom right", "top right", "bottom left", "middle right", "middle left", "top center", "bottom center"];
const pen = document.createElement("canvas").getContext("2d");

const meet = (one, other) => one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];

/** Left, top, right and bottom, in pixels, of a name where plotly puts it: of 11 pixels, beside a marker of 10. */
function nameBox([x, y], width, side) {
  const [vertical, horizontal] = side.split(" ");
  const left = { left: x - 8 - width, center: x - width / 2, right: x + 6 }[horizontal];
  const top = { top: y - 20, middle: y - 7, bottom: y + 6 }[vertical];
  return [left, top, left + width + 2, top + 13];
}

/** Names points, those of the front first; a name that would cover another, a point or the front is left out. */
function namePoints(Plotly, plot) {
  const { xaxis, yaxis } = plot._fullLayout;
  const pixel = (x, y) => [xaxis.d2p(x), yaxis.d2p(y)];
  const taken = [];
  const named = [];
  for (const [index, { name, x, y, customdata, error_y }] of plot.data.entries()) {
    const places = x.map((value, point) => pixel(value, y[point]));
    if (!customdata) {
      // The steps of the front: level from a point to the cost of the next one, then up.
      places.slice(1).forEach(([right, top], step) => {
        const [left, bottom] = places[step];
        taken.push([left, bottom - 1, right, bottom + 1], [right - 1, top, right + 1, bottom]);
      });
      continue;
    }
    places.forEach(([left, top], point) => {
      const deviation = error_y.visible ? Math.abs(pixel(x[point], y[point] + error_y.array[point])[1] - top) : 0;
      taken.push([left - 5, top - 5, left + 5, top + 5], [left - 5, top - deviation - 1, left + 5, top + deviation + 1]);
      const { id, front } = customdata[point];
      named.push({ index, point, place: [left, top], label: rows.get(id).label, order: name === "published" ? 2 : Number(!front) });
    });
  }
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const texts = plot.data.map(({ x }) => x.map(() => ""));
  const sides = plot.data.map(({ x }) => x.map(() => "top left"));
  for (const { index, point, place, label } of named.sort((one, other) => one.order - other.order)) {
    const width = pen.measureText(label).width;
    const free = SIDES.find((side) => {
      const box = nameBox(place, width, side);
      const inside = box[0] >= 0 && box[1] >= 0 && box[2] <= xaxis._length && box[3] <= yaxis._length;
      return inside && !taken.some((other) => meet(box, other));
    });
    if (!free) continue;
    taken.push(nameBox(place, width, free));
    texts[index][point] = plain(label);
    sides[index][point] = free;
  }
  const places = [...plot.data.keys()].filter((index) => plot.data[index].customdata);
  return Plotly.restyle(plot, { text: places.map((index) => texts[index]), textposition: places.map((index) => sides[index]) }, places);
}

// --- When to draw -------------------------------------------------------------------------------------------------

const figures = [...document.querySelectorAll("figure.chart")];
const drawAgain = () => figures.filter((figure) => figure.dataset.drawn).forEach(draw);
const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    nearby.unobserve(target);
    draw(target);
  }
}, { rootMargin: "600px" });
for (const figure of figures) {
  nearby.observe(figure);
  figure.querySelectorAll("select").forEach((select) => select.addEventListener("change", () => draw(figure)));
}
addEventListener("beforeprint", () => figures.forEach(draw));

// --- Light and dark -----------------------------------------------------------------------------------------------

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const dark = root.style.colorScheme ? root.style.colorScheme === "dark" : prefersDark.matches;
  byId("theme").textContent = dark ? "Light" : "Dark";
  drawAgain();
}
byId("theme").addEventListener("click", () => {
  root.style.colorScheme = byId("theme").textContent.toLowerCase();
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
showTheme();
