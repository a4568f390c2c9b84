// The heads of the columns: what each is, and how the user moves and removes it where the host takes that.

import { button, element } from "./controls.js";

/** Draw the heads. On a phone the cells have the titles, and those of the first row have the rest of the heads. */
export function showHeads(viewer) {
  const { columns } = viewer.payload;
  const known = JSON.stringify(columns);
  if (known === viewer.knownHeads?.columns && viewer.rows[0] === viewer.knownHeads.row) return;
  viewer.knownHeads = { columns: known, row: viewer.rows[0] };
  const image = element("div", "head");
  image.append(element("div", "title", "Image"));
  const heads = columns.map((column, at) => {
    const head = element("div", "head");
    head.append(element("div", "title", column.title), ...parts(viewer, at));
    if (column.movable && viewer.callbacks.onColumn) letDrag(viewer, head, at);
    return head;
  });
  viewer.heads.replaceChildren(image, ...heads);
  const below = (column) => {
    if (column >= 0) return parts(viewer, column);
    return columns.some(({ movable }) => movable) ? [element("div", "column-tools")] : []; // images are level
  };
  for (const cell of viewer.rows[0] ?? []) cell.head.replaceChildren(...below(cell.column));
  // A column that was moved by a key keeps the focus, at an end on its other button. Of head and cell, one is hidden.
  // Of a column that was not moved after all, as another one came in its place, no button gets it.
  const moved = viewer.moved?.title === columns[viewer.moved?.to]?.title ? viewer.moved : null;
  const places = moved ? [heads[moved.to], viewer.rows[0]?.find((cell) => cell.column === moved.to)?.head] : [];
  for (const place of places) {
    (place?.querySelector(`[data-move="${moved.by}"]`) ?? place?.querySelector("[data-move]"))?.focus();
  }
  viewer.moved = null;
}

/** What a column is, and the buttons that move and remove it. */
function parts(viewer, at) {
  const { columns } = viewer.payload;
  const { title, subtitle, movable } = columns[at];
  // What is not known before the model is loaded has its line, so that nothing moves.
  const made = subtitle || movable ? [element("small", "", subtitle || "\u00a0")] : [];
  if (!movable || !viewer.callbacks.onColumn) return made;
  const tools = element("div", "column-tools");
  const add = (sign, label, to, by) => {
    const tool = button(sign, () => {
      viewer.moved = by && { to, by, title };
      viewer.callbacks.onColumn({ column: at, title, to });
    });
    tool.title = label;
    tool.setAttribute("aria-label", label);
    if (by) tool.dataset.move = by;
    tools.append(tool);
  };
  if (at > 0) add("\u2190", `Move ${title} to the left`, at - 1, "left");
  if (at + 1 < columns.length) add("\u2192", `Move ${title} to the right`, at + 1, "right");
  add("\u00d7", `Remove ${title}`, null, "");
  return [...made, tools];
}

/** A head that is dragged onto another one takes its column there. */
function letDrag(viewer, head, at) {
  const over = (event, on) => {
    if (!viewer.draggedColumn) return; // a file, or a class
    event.preventDefault();
    head.classList.toggle("over", on && viewer.draggedColumn.column !== at);
  };
  head.draggable = true;
  head.ondragstart = (event) => {
    const { title } = viewer.payload.columns[at];
    event.dataTransfer.setData("text/plain", title);
    viewer.draggedColumn = { column: at, title };
  };
  head.ondragend = () => (viewer.draggedColumn = null);
  head.ondragover = (event) => over(event, true);
  head.ondragleave = (event) => over(event, false);
  head.ondrop = (event) => {
    over(event, false);
    const from = viewer.draggedColumn;
    if (from && from.column !== at) viewer.callbacks.onColumn({ ...from, to: at });
  };
}
