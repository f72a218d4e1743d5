// What the parts of the page's script share; sorting, filtering, and the record of a row.

const boards = JSON.parse(document.getElementById("data").textContent);
const rows = new Map(boards.flatMap((board) => board.rows.map((row) => [row.id, { ...row, board }])));
const root = document.documentElement;
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Starts a library that the page carries as text: as a blob a page can import its own modules, off the main thread. */
async function library(id) {
  const url = URL.createObjectURL(new Blob([byId(id).textContent], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// --- Tables -------------------------------------------------------------------------------------------------------

const { default: DataTable } = await library("datatables");

// Unknown values come last, whichever way the column is sorted.
const unknownLast = (compare) => (a, b) => (a === "" || b === "" ? (a === "") - (b === "") : compare(a, b));
DataTable.type("number or unknown", {
  order: { asc: unknownLast((a, b) => a - b), desc: unknownLast((a, b) => b - a) },
});
DataTable.type("text or unknown", {
  order: {
    asc: unknownLast((a, b) => String(a).localeCompare(b, "en", { numeric: true })),
    desc: unknownLast((a, b) => String(b).localeCompare(a, "en", { numeric: true })),
  },
});

for (const table of document.querySelectorAll("table.rows")) {
  const api = new DataTable(table, {
    paging: false,
    autoWidth: false,
    order: [],
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    columns: Array.from(table.tHead.rows[0].cells, ({ dataset: { kind } }) => ({
      type: kind === "text" ? "text or unknown" : "number or unknown",
      orderSequence: kind === "score" ? ["desc", "asc"] : ["asc", "desc"],
    })),
    language: { emptyTable: "no row", zeroRecords: "no row matches the filter" },
  });
  const total = api.rows().count();
  const count = document.querySelector(`[data-counts="${table.id}"]`);
  document.querySelector(`[data-filters="${table.id}"]`).addEventListener("input", ({ target }) => {
    api.search(target.value).draw();
    const shown = api.rows({ search: "applied" }).count();
    count.textContent = shown === total ? `${total} row${total === 1 ? "" : "s"}` : `${shown} of ${total} rows`;
  });
}

// --- The record of a row ------------------------------------------------------------------------------------------

function showRecord(id) {
  const dialog = byId("record");
  const record = byId(`record-${id}`).content.cloneNode(true);
  const protocol = document.querySelector(`#${rows.get(id).board.id} > .protocol`);
  record.querySelector(".protocol-place")?.replaceWith(protocol.cloneNode(true));
  dialog.querySelector(".content").replaceChildren(record);
  dialog.showModal();
  dialog.scrollTop = 0;
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button.record");
  if (button) showRecord(button.dataset.row);
  if (target.id === "record") target.close(); // on the backdrop
});
