// Heat maps over images that react at once: `mount(element, payload, callbacks)`. No framework, no build step.
// `swin_core.figures.viewer_payload.viewer_payload` makes the payload. All text is set as text, never as HTML.

import { CellView } from "./cells.js";
import { button, element, lookBar } from "./controls.js";
import { cellSheet, download, gridSheet } from "./drawing.js";
import { showHeads } from "./heads.js";
import { bytesOf, colourTable } from "./maps.js";

const MOST_ZOOM = 16;
const WHEEL_PAUSE = 300;
const NEAR = 200; // maps are drawn so many pixels before they are scrolled into view
// Parts of the look that change the colours of the maps; the others move what lies over them.
const COLOURS = ["colormap", "opacity", "threshold", "scale"];
const LOOK = [...COLOURS, "contours", "wipe", "split", "image", "raw"];

/**
 * Draw a grid of heat maps into an element.
 *
 * @param callbacks onLook(look) when a drag or choice of a look control ends; onCell({row, column}) on a click of a
 *   badge; onClass({row, column, label}) on a click of a class; onContrast({row, column, label, against}) when one is
 *   dragged onto another, for hosts with onClass; onStroke({row, strokes, fill, keep, time}) when a stroke of the brush
 *   ends; onPoint({x, y}) when a place of the photo is clicked, or Enter pressed at the crosshair, in fractions of its
 *   width and height; onColumn({column, title, to}) when the user moves a `movable` column to the place `to`, or removes
 *   it, which is `to: null`. A host that draws rows and captions of its own gives `sheet`: { body, placeOf(row, column) }.
 *   `body` is the element with all rows, `placeOf` returns the one that takes a cell's frame. Such a frame neither zooms
 *   nor has a crosshair.
 * @returns {update(payload), look(look), answer(rows), badges({key: {text, better}}), destroy()}; `answer` shows what is
 *   known of a stroke before its maps are: [{row, image, brush, cells: [{classes}]}].
 */
export function mount(place, payload, callbacks = {}) {
  const viewer = new Viewer(place, callbacks);
  viewer.update(payload);
  return {
    update: (next) => viewer.update(next),
    look: (look) => viewer.setLook(look),
    answer: (rows) => viewer.answer(rows),
    badges: (badges) => viewer.showBadges(badges),
    destroy: () => viewer.destroy(),
    viewer,
  };
}

class Viewer {
  constructor(place, callbacks) {
    this.callbacks = callbacks;
    // A host that draws the viewer anew, as a page that is visited again, may keep what the user has set.
    this.kept = callbacks.kept ?? {};
    this.settings = this.kept.settings ??= {}; // the look
    this.view = this.kept.view ?? { x: 0.5, y: 0.5, zoom: 1 };
    this.badges = {};
    this.point = null;
    this.rows = [];
    this.changed = new Set();
    this.root = element("div", "viewer");
    this.heads = element("div", "row heads");
    this.body = element("div", "rows");
    this.scroller = element("div", "scroller");
    this.scroller.append(...(callbacks.sheet ? [callbacks.sheet.body] : [this.heads, this.body]));
    this.status = element("div", "status");
    this.status.setAttribute("aria-live", "polite");
    this.foot = element("div", "foot");
    this.legend = element("div", "legend");
    this.colours = element("canvas", "colours");
    Object.assign(this.colours, { width: 256, height: 1 });
    this.colours.setAttribute("role", "img");
    this.colours.setAttribute("aria-label", "Colours from the bottom to the top of the scale");
    this.words = element("span", "words");
    this.legend.append(this.colours, this.words);
    this.root.append(this.scroller, this.status, this.foot);
    place.append(this.root);
    this.observer = new ResizeObserver(() => this.ask("size"));
    const margin = { rootMargin: `${NEAR}px` };
    this.sight = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.target.cellView.visible = entry.isIntersecting;
      this.ask("sight");
    }, margin);
    this.observer.observe(this.root);
    // The wheel zooms without a click, so the key may go to the page.
    this.escape = (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || this.view.zoom === 1) return;
      if (this.root.matches(":hover, :focus-within")) this.reset();
    };
    document.addEventListener("keydown", this.escape);
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
    this.sight.disconnect();
    this.bar?.ends();
    document.removeEventListener("keydown", this.escape);
    this.root.remove();
  }

  cells() {
    return this.rows.flat();
  }

  /** Show a payload. What the user has set stays, unless the payload has another look than the last one. */
  update(payload) {
    this.payload = payload;
    this.tables = Object.fromEntries(Object.entries(payload.colormaps).map(([name, text]) => [name, bytesOf(text)]));
    const look = JSON.stringify([payload.look, payload.revision]);
    if (look !== this.kept.given) {
      this.kept.given = look;
      Object.assign(this.settings, payload.look);
    }
    if (!this.bar) this.makeBar();
    const { sheet } = this.callbacks;
    const shape = JSON.stringify(payload.rows.map((row) => row.cells.length));
    if (shape !== this.shape) {
      this.shape = shape;
      this.sight.disconnect();
      const columns = (row) => [...(sheet ? [] : [-1]), ...row.cells.keys()];
      this.rows = payload.rows.map((row, i) => columns(row).map((j) => new CellView(this, i, j)));
      if (!sheet) this.body.replaceChildren(...this.rows.map((cells) => this.makeRow(cells)));
    }
    if (sheet) for (const cell of this.cells()) this.placeInSheet(cell);
    const titles = payload.columns.map(({ title }) => title);
    payload.rows.forEach((row, i) => {
      for (const cell of this.rows[i]) {
        if (cell.column < 0) cell.update({ ...row, cells: undefined }, "Image", payload.images, row.title);
        else cell.update(row.cells[cell.column], titles[cell.column], payload.images, row.title);
      }
    });
    showHeads(this);
    this.root.style.setProperty("--columns", titles.length + 1);
    // A single row may fill the window; of several rows, two should be seen at once.
    this.root.style.setProperty("--largest", payload.rows.length > 1 ? "280px" : "400px");
    this.signed = payload.rows.some((row) => row.cells.some((cell) => cell.signed));
    const others = titles.length > 1 ? titles.map((title, at) => [String(at), title]) : [];
    this.bar.show(this.settings, [["", "off"], ["image", "map and image"], ...others], this.signed);
    this.show(this.view);
    this.ask("size", "look", "contours");
  }

  answer(rows) {
    for (const { row, image, brush, cells } of rows) {
      const [photo, ...maps] = this.rows[row] ?? [];
      photo?.answer({ ...photo.data, brush }, image);
      cells.forEach(({ classes }, j) => maps[j]?.answer({ ...maps[j].data, classes }));
    }
  }

  makeBar() {
    this.bar = lookBar(this.payload.colormaps, {
      read: (part) => {
        Object.assign(this.settings, part);
        if ("contours" in part || "scale" in part) this.ask("contours");
        this.ask(Object.keys(part).some((name) => COLOURS.includes(name)) ? "look" : "view");
      },
      done: () => this.callbacks.onLook?.(this.look()),
    });
    this.back = button("Whole image", () => this.reset(), "back");
    this.back.hidden = true;
    if (!this.callbacks.sheet) this.bar.tools.append(button("Save grid as PNG", () => this.saveGrid()));
    this.legend.append(this.back);
    this.foot.append(this.legend, this.bar.bar);
  }

  look() {
    return Object.fromEntries(LOOK.map((name) => [name, this.settings[name]]));
  }

  /** Show a look that the user has set elsewhere. */
  setLook(look) {
    Object.assign(this.settings, look);
    this.bar.show(this.settings, null, this.signed);
    this.ask("look", "contours", "view");
  }

  /** Give a cell's frame to the host, where it is a part of a control and so no control itself. */
  placeInSheet(cell) {
    const place = this.callbacks.sheet.placeOf(cell.row, cell.column);
    if (cell.frame.parentElement === place) return;
    cell.frame.removeAttribute("tabindex");
    place.replaceChildren(cell.frame);
    cell.frame.cellView = cell;
    this.sight.observe(cell.frame);
  }

  makeRow(cells) {
    const row = element("div", "row");
    for (const cell of cells) {
      row.append(cell.element);
      cell.frame.cellView = cell;
      this.sight.observe(cell.frame);
      this.listen(cell);
    }
    // On a phone one column is seen at a time: all rows swipe together.
    row.addEventListener("scroll", () => {
      for (const other of this.body.children) {
        if (other !== row && Math.abs(other.scrollLeft - row.scrollLeft) > 1) other.scrollLeft = row.scrollLeft;
      }
    });
    return row;
  }

  // -- places

  /** The part of the photo that a cell with this region shows: the region itself, or less of it when zoomed. */
  seen([left, top, right, bottom]) {
    const { x, y, zoom } = this.view;
    const [width, height] = [(right - left) / zoom, (bottom - top) / zoom];
    const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
    return {
      left: clamp(x - width / 2, left, right - width),
      top: clamp(y - height / 2, top, bottom - height),
      width,
      height,
    };
  }

  /** The place of the photo under a pointer. */
  placeOf(cell, event) {
    const box = cell.frame.getBoundingClientRect();
    const seen = this.seen(cell.data.region);
    return {
      x: seen.left + ((event.clientX - box.left) / box.width) * seen.width,
      y: seen.top + ((event.clientY - box.top) / box.height) * seen.height,
    };
  }

  /** Zoom so that a place of the photo stays where it is in the cell. */
  zoomAt(cell, place, factor) {
    const before = this.seen(cell.data.region);
    const zoom = Math.min(Math.max(this.view.zoom * factor, 1), MOST_ZOOM);
    const ratio = this.view.zoom / zoom;
    const centre = (start, size, at) => at + (start + size / 2 - at) * ratio;
    this.lookAt(cell, centre(before.left, before.width, place.x), centre(before.top, before.height, place.y), zoom);
  }

  /** Show another part of the photo, which does not leave this cell's crop. */
  lookAt(cell, x, y, zoom) {
    this.view = { x, y, zoom };
    const seen = this.seen(cell.data.region);
    this.show({ x: seen.left + seen.width / 2, y: seen.top + seen.height / 2, zoom });
  }

  reset() {
    this.show({ x: 0.5, y: 0.5, zoom: 1 });
  }

  show(view) {
    this.view = this.kept.view = view;
    this.back.hidden = view.zoom === 1;
    this.root.classList.toggle("zoomed", view.zoom > 1);
    this.ask("view", "cross");
  }

  /** What the wipe shows right of its line in a cell: { partner }, a cell or null for the image; null without a wipe. */
  wiped(cell) {
    const { wipe } = this.settings;
    if (!wipe || cell.column < 0 || !cell.map) return null;
    if (wipe === "image") return { partner: null };
    const partner = this.rows[cell.row].find((one) => one.column === Number(wipe));
    return partner?.picture ? { partner } : null; // the column is gone, or has no map
  }

  // -- colours

  topOf(map) {
    return this.settings.scale === "shared" ? this.payload.sharedTop : map.top;
  }

  table(signed) {
    const key = JSON.stringify([COLOURS.map((name) => this.settings[name]), signed]);
    this.held ??= new Map();
    if (!this.held.has(key)) {
      if (this.held.size > 1) this.held.clear();
      this.held.set(key, colourTable(this.tables[signed ? "signed" : this.settings.colormap], this.settings, signed));
    }
    return this.held.get(key);
  }

  // -- drawing, at most once a frame and only what has changed

  ask(...what) {
    for (const one of what) this.changed.add(one);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    const changed = this.changed;
    this.changed = new Set();
    const cells = this.cells();
    if (changed.has("look")) {
      for (const cell of cells) cell.stale = true;
      this.showLegend();
    }
    if (changed.has("size")) this.measure(cells);
    for (const cell of cells) if (cell.stale && cell.visible) cell.paintHeat();
    if (changed.has("contours")) for (const cell of cells) cell.paintContours();
    // The wipe shows a copy of another cell's colours.
    if (changed.has("view") || changed.has("size") || this.settings.wipe) for (const cell of cells) cell.place();
    if (changed.has("cross") || changed.has("size")) for (const cell of cells) cell.cross(this.point);
  }

  /** Measure all frames before any is changed, which would make the browser lay out the page anew for each. */
  measure(cells) {
    const found = cells.map(({ frame, visible }) => {
      const box = visible === null ? frame.getBoundingClientRect() : null;
      // The first drawing comes before the observer's first report.
      const near = !box || (box.bottom > 0 && box.top < window.innerHeight);
      return { near, size: [frame.clientWidth, frame.clientHeight] };
    });
    found.forEach(({ near, size }, at) => {
      cells[at].visible ??= near;
      cells[at].resize(...size);
    });
  }

  showLegend() {
    const table = this.tables[this.signed ? "signed" : this.settings.colormap];
    const image = new ImageData(256, 1);
    for (let i = 0; i < 256; i++) image.data.set([...table.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    this.colours.getContext("2d").putImageData(image, 0, 0);
    const scale =
      this.settings.scale === "shared"
        ? "One scale for all maps: equal colours are equal values."
        : "Colours run from weakest to strongest within each map.";
    this.words.textContent = this.signed ? `${scale} Orange is for the class, blue against it.` : scale;
  }

  showBadges(badges) {
    this.badges = badges;
    for (const cell of this.cells()) if (cell.data?.key) cell.showBadge(badges[cell.data.key] ?? cell.data.badge);
  }

  // -- pointer, touch and keys

  listen(cell) {
    const { frame } = cell;
    let drag = null;
    let pinch = 0;
    let panned = false;
    frame.addEventListener("pointermove", (event) => {
      if (!cell.picture) return;
      if (drag) {
        panned = true;
        const seen = this.seen(cell.data.region);
        const box = frame.getBoundingClientRect();
        const [dx, dy] = [(event.clientX - drag.x) / box.width, (event.clientY - drag.y) / box.height];
        drag = { x: event.clientX, y: event.clientY };
        const { x, y, zoom } = this.view;
        this.lookAt(cell, x - dx * seen.width, y - dy * seen.height, zoom);
      }
      if (!pinch) this.pointAt(this.placeOf(cell, event));
    });
    frame.addEventListener("pointerdown", (event) => {
      if (!cell.picture || event.button) return;
      panned = false;
      this.pointAt(this.placeOf(cell, event));
      if (this.view.zoom === 1 || pinch) return;
      frame.setPointerCapture(event.pointerId);
      drag = { x: event.clientX, y: event.clientY };
    });
    for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, () => (drag = null));
    frame.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.pointAt(null);
    });
    frame.addEventListener("click", (event) => {
      if (cell.picture && !panned) this.callbacks.onPoint?.(this.placeOf(cell, event));
    });
    frame.addEventListener("dblclick", () => this.reset());
    // Of the window, so that it zooms with a brush in hand too, whose canvas lies over the frame.
    cell.window.addEventListener("wheel", (event) => this.wheel(cell, event), { passive: false });
    const spread = ({ touches: [one, other] }) =>
      Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = ({ touches: [one, other] }) => ({
      clientX: (one.clientX + other.clientX) / 2,
      clientY: (one.clientY + other.clientY) / 2,
    });
    frame.addEventListener(
      "touchstart",
      (event) => {
        if (event.touches.length !== 2 || !cell.picture) return;
        event.preventDefault();
        drag = null;
        pinch = spread(event);
      },
      { passive: false },
    );
    frame.addEventListener(
      "touchmove",
      (event) => {
        if (!pinch || event.touches.length !== 2) return;
        event.preventDefault();
        const wide = spread(event);
        this.zoomAt(cell, this.placeOf(cell, middle(event)), wide / pinch);
        pinch = wide;
      },
      { passive: false },
    );
    for (const name of ["touchend", "touchcancel"]) frame.addEventListener(name, () => (pinch = 0));
    frame.addEventListener("keydown", (event) => this.key(cell, event));
    frame.addEventListener("blur", () => {
      if (this.byKeys) this.pointAt(null);
      this.byKeys = false;
    });
  }

  /** The wheel zooms, but a page that is being scrolled goes on scrolling when a map comes under the pointer. */
  wheel(cell, event) {
    if (!cell.picture) return;
    const outwards = event.deltaY > 0;
    const scrolling = event.timeStamp - (this.scrolledAt ?? -Infinity) < WHEEL_PAUSE;
    if (!event.ctrlKey && ((outwards && this.view.zoom === 1) || (scrolling && this.view.zoom === 1))) {
      this.scrolledAt = event.timeStamp;
      return;
    }
    event.preventDefault();
    this.zoomAt(cell, this.placeOf(cell, event), Math.exp(-event.deltaY / 300));
  }

  key(cell, event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!cell.picture || event.altKey || event.metaKey) return;
    const seen = this.seen(cell.data.region);
    const middle = { x: seen.left + seen.width / 2, y: seen.top + seen.height / 2 };
    if (event.key in steps) {
      const size = event.shiftKey ? 0.1 : 0.02;
      const [dx, dy] = steps[event.key];
      const from = this.point ?? middle;
      const within = (value, least, extent) => Math.min(Math.max(value, least), least + extent);
      this.byKeys = true;
      this.pointAt({
        x: within(from.x + dx * size * seen.width, seen.left, seen.width),
        y: within(from.y + dy * size * seen.height, seen.top, seen.height),
      });
      this.status.textContent = this.spoken(cell);
    } else if (event.key === "+" || event.key === "-") {
      this.zoomAt(cell, this.point ?? middle, event.key === "+" ? 1.25 : 0.8);
    } else if (event.key === "Escape" && (this.view.zoom > 1 || this.point)) {
      this.reset();
      this.pointAt(null);
    } else if (event.key === "Enter" && this.callbacks.onPoint && this.point) {
      this.callbacks.onPoint(this.point);
    } else if (event.key === "Enter" && cell.data.map) {
      this.callbacks.onCell?.({ row: cell.row, column: cell.column });
    } else {
      return;
    }
    event.preventDefault();
  }

  /** The values of a row under the crosshair, for screen readers. */
  spoken(cell) {
    const place = `${Math.round(100 * this.point.x)} % across, ${Math.round(100 * this.point.y)} % down`;
    const values = this.rows[cell.row]
      .filter((one) => one.column >= 0)
      .map((one) => `${one.title.textContent}: ${one.valueText(this.point) || "no value"}`);
    return [place, ...values].join("; ");
  }

  pointAt(point) {
    this.point = point;
    this.ask("cross");
  }

  // -- files

  async saveCell(cell) {
    const partner = this.wiped(cell)?.partner;
    await Promise.all([cell, partner].filter((one) => one?.picture).map((one) => one.base.photo.decode()));
    download(cellSheet(cell), "swinlens-map.png");
  }

  async saveGrid() {
    await Promise.all(this.cells().filter((cell) => cell.picture).map((cell) => cell.base.photo.decode()));
    download(gridSheet(this.rows), "swinlens-grid.png");
  }
}
