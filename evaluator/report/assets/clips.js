// The table of clips: sorted, searched, narrowed; a row opens its clip.
"use strict";

(function () {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const rows = JSON.parse(document.getElementById("rows").textContent).map(named);
  const search = document.getElementById("search");
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");
  report.clip.begin(facts);

  function named(values) {
    const row = {};
    facts.columns.forEach((name, place) => { row[name] = values[place]; });
    return row;
  }

  function text(value, name) {
    const made = document.createElement("span");
    made.textContent = value;
    if (name) made.className = name;
    return made;
  }

  function opener(cell) {
    const row = cell.getData();
    const made = document.createElement("button");
    made.type = "button";
    made.className = "open";
    made.dataset.row = row.row;
    made.textContent = row.id;
    return made;
  }

  function remarks(cell) {
    const row = cell.getData();
    const changes = row.changes.filter(Boolean).map((change, place) => facts.others.length > 1 ? change + " (" + facts.others[place] + ")" : change);
    return text([...changes, ...row.flags.map((key) => facts.titles[key] || key)].join(", "));
  }

  function columns() {
    const found = [{ title: "clip", field: "id", formatter: opener, width: 112, responsive: 0 }];
    if (facts.metric) {
      found.push({
        title: facts.metric, field: "score", sorter: "number", width: Math.max(92, 44 + 9 * facts.metric.length), hozAlign: "right", responsive: 0,
        formatter: (cell) => text(report.clip.told(cell.getValue(), facts.percent)),
      });
    }
    if (facts.percent) found.push({ title: "errors", field: "wrong", sorter: "number", width: 88, hozAlign: "right", responsive: 3, formatter: plain });
    found.push(
      { title: "seconds", field: "seconds", sorter: "number", width: 112, hozAlign: "right", responsive: 4, formatter: plain },
      { title: "reference", field: "reference", minWidth: 190, responsive: 2, formatter: plain },
      { title: "answer", field: "text", minWidth: 120, responsive: 1, formatter: (cell) => text(cell.getData().error || cell.getValue()) },
      { title: "remarks", field: "flags", minWidth: 130, responsive: 5, headerSort: false, formatter: remarks },
    );
    return found;
  }

  function plain(cell) {
    const value = cell.getValue();
    return text(value === null || value === undefined ? "-" : value);
  }

  const table = new Tabulator("#table", {
    data: rows,
    index: "row",
    columns: columns(),
    layout: "fitColumns",
    responsiveLayout: "hide",
    height: Math.min(620, 60 + 38 * Math.max(rows.length, 2)),
    rowHeight: 38,
    headerSortClickElement: "header",
    initialSort: facts.percent ? [{ column: "wrong", dir: "desc" }] : facts.metric ? [{ column: "score", dir: facts.higherIsBetter ? "asc" : "desc" }] : [],
    placeholder: "No clip is like this.",
  });
  report.table = table;

  function matches(row) {
    const key = filter.value;
    if (key.startsWith("flag:") && !row.flags.includes(key.slice(5))) return false;
    if (key.startsWith("speaker ") && row.speaker !== key.slice(8)) return false;
    if (key.startsWith("change:")) {
      const [, place, change] = key.split(":");
      if (row.changes[Number(place)] !== change) return false;
    }
    if ((key === "wrong" || key === "right") && isRight(row) !== (key === "right")) return false;
    const wanted = search.value.trim().toLowerCase();
    if (!wanted) return true;
    row.searched = row.searched || [row.id, row.question, row.reference, row.text].join("\n").toLowerCase();
    return row.searched.includes(wanted);
  }

  function isRight(row) {
    return facts.percent ? row.wrong === 0 : row.score === null || row.score >= 1;
  }

  function narrow() {
    table.setFilter(matches);
    count.textContent = table.getDataCount("active") + " of " + facts.rows + " clips";
  }

  function openRow(row) {
    const before = row.getPrevRow();
    const after = row.getNextRow();
    report.clip.open(row.getData(), {
      before: Boolean(before),
      after: Boolean(after),
      step: (way) => openRow(way < 0 ? before : after),
      closed: () => focusRow(row),
    });
  }

  async function focusRow(row) {
    await table.scrollToRow(row, "nearest", false).catch(() => {});
    const found = row.getElement().querySelector("button.open");
    if (found) found.focus();
  }

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(narrow, 120);
  });
  filter.addEventListener("change", narrow);
  document.addEventListener("click", (event) => {
    const shown = event.target.closest("[data-filter]");
    if (!shown) return;
    filter.value = shown.dataset.filter;
    narrow();
    document.getElementById("clips").scrollIntoView();
    document.getElementById("clips").focus({ preventScroll: true });
  });
  table.on("rowClick", (event, row) => openRow(row));
  document.getElementById("table").addEventListener("keydown", (event) => {
    const held = event.target.closest("button.open");
    if (!held || (event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
    event.preventDefault();
    const row = table.getRow(Number(held.dataset.row));
    const next = event.key === "ArrowDown" ? row.getNextRow() : row.getPrevRow();
    if (next) focusRow(next);
  });
  // Tabulator sorts by a click; a key does the same.
  function sortByKeys() {
    document.querySelectorAll("#table .tabulator-col.tabulator-sortable").forEach((head) => {
      head.tabIndex = 0;
      head.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        head.click();
      });
    });
  }

  table.on("tableBuilt", () => {
    sortByKeys();
    document.getElementById("table").setAttribute("aria-label", "Clips");
    // Rows hold what takes the focus; a grid has no other child that does.
    document.querySelector("#table .tabulator-tableholder").removeAttribute("tabindex");
    narrow();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  });
})();
