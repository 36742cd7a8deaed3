"""What the report does where scripts run: columns that sort, and folded parts that open on paper."""

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], original = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (original.length < 3) continue;
  const key = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.sort;
    return value === undefined ? cell.textContent.trim() : Number(value);
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b, undefined, {numeric: true});
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = {none: "descending", descending: "ascending", ascending: "none"}[head.ariaSort || "none"];
      heads.forEach(other => { other.ariaSort = null; });
      const rows = [...original];
      if (next !== "none") {
        head.ariaSort = next;
        const sign = next === "ascending" ? 1 : -1;
        rows.sort((a, b) => sign * order(key(a, column), key(b, column)));
      }
      body.append(...rows);
    });
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
"""
