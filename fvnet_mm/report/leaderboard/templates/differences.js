// The differences between two rows, all classes together and class by class.

const first = byId("first");
const second = byId("second");
const classMetric = byId("class-metric");
let ticked = [];

for (const select of [first, second]) {
  for (const board of boards) {
    const comparable = board.rows.filter((row) => Object.keys(row.classes).length);
    const options = comparable.map((row) => new Option(row.label, row.id));
    if (options.length) select.append(element("optgroup", { label: board.title }, ...options));
  }
}
if (second.length > 1) second.selectedIndex = 1;

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** A name with places to break where its words meet, as in EfficientFormer. */
const breakable = (name) => name.split(/(?<=[a-z])(?=[A-Z])|(?<=_)/).flatMap((part, index) => (index ? [element("wbr"), part] : [part]));

function bar(value, largest) {
  const half = (50 * Math.abs(value)) / (largest || 1);
  const filled = element("i");
  filled.style.width = `${half}%`;
  filled.style.marginLeft = value < 0 ? `${50 - half}%` : "50%";
  return element("td", { className: "bar" }, filled);
}

/** The names that both have, with the value of each and the difference. */
function differences(one, other) {
  return [...one]
    .filter(([name, value]) => value != null && other.get(name) != null)
    .map(([name, value]) => ({ name, values: [value, other.get(name)], difference: value - other.get(name) }));
}

function differenceTable(caption, heads, lines) {
  const largest = Math.max(...lines.map(({ difference }) => Math.abs(difference)));
  const body = lines.map(({ name, values, difference }) => {
    const className = difference < 0 ? "loss" : "gain";
    const numbers = [...values.map((value) => value.toFixed(2)), signed(difference)];
    const cells = [...numbers.map((text) => element("td", { className: "number" }, text)), bar(difference, largest)];
    cells.slice(2).forEach((cell) => cell.classList.add(className));
    return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
  });
  const [subject, ...labels] = heads;
  const head = element("tr", {},
    element("th", { scope: "col" }, subject),
    ...labels.map((label) => element("th", { scope: "col", className: "number" }, ...breakable(label))),
    element("th", { scope: "col", className: "bar" }, element("span", {}, "worse"), element("span", {}, "better")));
  const table = element("table", { className: "differences" }, element("thead", {}, head), element("tbody", {}, ...body));
  const scroller = element("div", { className: "scroller", tabIndex: 0 }, table);
  scroller.setAttribute("role", "region");
  scroller.setAttribute("aria-label", caption);
  return [element("h3", {}, caption), scroller];
}

function compare() {
  const [one, other] = [rows.get(first.value), rows.get(second.value)];
  if (!one || !other) return;
  const metrics = Object.keys(one.classes).filter((name) => name in other.classes);
  if (metrics.join() !== Array.from(classMetric.options, (option) => option.value).join()) {
    classMetric.replaceChildren(...metrics.map((name) => new Option(name)));
  }
  const means = ({ metrics }) => new Map(Object.entries(metrics).map(([name, { mean }]) => [name, mean]));
  const values = ({ board, classes }) => new Map(board.classes.map((name, index) => [name, classes[classMetric.value]?.[index]]));
  const overall = differences(means(one), means(other));
  const classes = differences(values(one), values(other)).sort((a, b) => b.difference - a.difference);
  const better = classes.filter(({ difference }) => difference > 0).length;
  const worse = classes.filter(({ difference }) => difference < 0).length;
  byId("verdict").textContent = classes.length
    ? `${one.label} is better than ${other.label} in ${better} of the ${classes.length} classes that both have, worse in ${worse}.`
    : "The two have no class in common.";
  const parts = [];
  const unlike = Object.keys(one.board.protocol).filter((name) => one.board.protocol[name] !== other.board.protocol[name]);
  if (unlike.length) {
    parts.push(element("p", { className: "problems" }, `Not of one protocol; they differ in ${unlike.join(", ").replaceAll("_", " ")}.`));
  }
  const labels = [one.label, other.label, "Difference"];
  if (overall.length) parts.push(...differenceTable("All classes together", ["Metric", ...labels], overall));
  if (classes.length) parts.push(...differenceTable(`${classMetric.value} of each class`, ["Class", ...labels], classes));
  byId("comparison").replaceChildren(...parts);
}

function tick(ids) {
  ticked = ids;
  for (const box of document.querySelectorAll("input[data-row]")) box.checked = ticked.includes(box.dataset.row);
  byId("picked").hidden = !ticked.length;
  const names = ticked.map((id) => rows.get(id).label);
  byId("picked").firstElementChild.textContent = names.length === 2 ? names.join(" − ") : `${names[0]}: tick another row`;
  byId("picked").querySelector("a").hidden = ticked.length < 2;
  if (ticked.length === 2) {
    [first.value, second.value] = ticked;
    compare();
  }
}

// A third row takes the place of the first that was ticked.
document.addEventListener("change", ({ target }) => {
  if (!target.matches("input[data-row]")) return;
  const others = ticked.filter((id) => id !== target.dataset.row);
  tick(target.checked ? [...others, target.dataset.row].slice(-2) : others);
});
byId("picked").querySelector("button").addEventListener("click", () => tick([]));
for (const select of [first, second, classMetric]) select.addEventListener("change", compare);
byId("swap").addEventListener("click", () => {
  [first.value, second.value] = [second.value, first.value];
  compare();
});
compare();
