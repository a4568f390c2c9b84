// A map of images as points: zoom, pan, hover, lasso and box. All text is set as text, never as HTML.
// Points are drawn by WebGL, and on a 2-D canvas where the browser has none.
const FADED = 255; // colour of a point that the filters leave out
const REACH = 12; // pixels from the pointer to a point
const REST_MS = 90; // the pointer rests this long before the image is asked for
const KEPT = 300; // images that are held in the browser

const VERTEX = `
  attribute vec2 place; attribute vec4 colour; uniform vec4 view; uniform float size; varying vec4 shade;
  void main() {
    gl_Position = vec4((place - view.xy) * view.zw, 0.0, 1.0);
    gl_PointSize = size;
    shade = colour;
  }`;
const FRAGMENT = `
  precision mediump float; varying vec4 shade;
  void main() {
    float far = length(gl_PointCoord - 0.5);
    if (far > 0.5) discard;
    gl_FragColor = vec4(shade.rgb, 1.0) * shade.a * smoothstep(0.5, 0.4, far);
  }`;

const swinlensMaps = new WeakMap();

function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** Draws points by WebGL; null if the browser has none. */
function glPainter(canvas) {
  const gl = canvas.getContext("webgl", { antialias: true, premultipliedAlpha: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const buffers = { place: gl.createBuffer(), colour: gl.createBuffer() };
  const fill = (name, values, size, type, normal) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const at = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, normal, 0, 0);
  };
  let count = 0;
  return {
    set(places, colours) {
      count = places.length / 2;
      fill("place", places, 2, gl.FLOAT, false);
      fill("colour", colours, 4, gl.UNSIGNED_BYTE, true);
    },
    draw(view, size) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform4f(gl.getUniformLocation(program, "view"), view.x, view.y, view.across, view.up);
      gl.uniform1f(gl.getUniformLocation(program, "size"), size);
      gl.drawArrays(gl.POINTS, 0, count);
    },
  };
}

function flatPainter(canvas) {
  const context = canvas.getContext("2d");
  let places = [];
  let colours = [];
  return {
    set(newPlaces, newColours) {
      [places, colours] = [newPlaces, newColours];
    },
    draw(view, size) {
      const { width, height } = canvas;
      context.clearRect(0, 0, width, height);
      for (let at = 0; at < places.length / 2; at += 1) {
        const x = (((places[2 * at] - view.x) * view.across + 1) / 2) * width;
        const y = ((1 - (places[2 * at + 1] - view.y) * view.up) / 2) * height;
        if (x < -size || y < -size || x > width + size || y > height + size) continue;
        const [red, green, blue, alpha] = colours.subarray(4 * at, 4 * at + 4);
        context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${alpha / 255})`;
        context.beginPath();
        context.arc(x, y, size / 2, 0, 2 * Math.PI);
        context.fill();
      }
    },
  };
}

/** Whether a point lies in a polygon of [x, y], by the crossings of a ray. */
function inside([x, y], corners) {
  let odd = false;
  for (let at = 0, last = corners.length - 1; at < corners.length; last = at, at += 1) {
    const [[ax, ay], [bx, by]] = [corners[at], corners[last]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

class ImageMap {
  constructor(root) {
    this.root = root;
    this.frame = root.querySelector("#frame");
    this.canvas = root.querySelector("canvas");
    this.outline = root.querySelector("#outline");
    this.tip = root.querySelector("#tip");
    this.painter = glPainter(this.canvas) ?? flatPainter(this.canvas);
    this.camera = { x: 0, y: 0, scale: 1 };
    this.tips = new Map();
    this.pointers = new Map();
    this.hovered = -1;
    this.setTool(matchMedia("(pointer: coarse)").matches ? "move" : "lasso");
    for (const button of root.querySelectorAll("button[data-tool]")) button.onclick = () => this.setTool(button.dataset.tool);
    root.querySelector("#whole").onclick = () => this.look(this.home);
    this.frame.onpointerdown = (event) => this.press(event);
    this.frame.onpointermove = (event) => this.move(event);
    this.frame.onpointerup = (event) => this.release(event);
    this.frame.onpointercancel = () => this.drop();
    this.frame.onpointerleave = () => this.point(-1);
    this.frame.onkeydown = (event) => this.key(event);
    this.frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.frame);
    this.answered = ({ detail }) => this.answer(detail);
    document.addEventListener("swinlens-map-tip", this.answered);
  }

  end() {
    this.resized.disconnect();
    document.removeEventListener("swinlens-map-tip", this.answered);
  }

  setTool(tool) {
    this.tool = tool;
    this.frame.dataset.tool = tool;
    for (const button of this.root.querySelectorAll("button[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    }
    this.touch();
  }

  /** One finger scrolls the page over a map that is shown whole and is not selected in. */
  touch() {
    const free = this.tool === "move" && this.camera.scale === 1;
    this.frame.style.touchAction = free ? "pan-y" : "none";
  }

  update(data, send) {
    this.send = send;
    if (data.revision !== this.revision) {
      this.revision = data.revision;
      this.tips.clear();
    }
    this.frame.setAttribute("aria-label", data.title);
    this.places = decode(data.places, Float32Array);
    this.fit();
    const kinds = decode(data.colours, Uint8Array);
    const marked = new Set(decode(data.marked, Int32Array));
    // What is drawn last lies on top: points that are left out below, the first colour of the legend above.
    const rank = (at) => (marked.has(at) ? 512 : 0) + (kinds[at] === FADED ? 0 : FADED - kinds[at]);
    this.order = Int32Array.from(kinds.keys()).sort((a, b) => rank(a) - rank(b) || a - b);
    const shades = data.legend.map(({ colour }) => rgb(colour));
    const colours = new Uint8Array(4 * kinds.length);
    const places = new Float32Array(2 * kinds.length);
    this.order.forEach((at, place) => {
      places.set(this.places.subarray(2 * at, 2 * at + 2), 2 * place);
      const dim = marked.size > 0 && !marked.has(at);
      const shade = kinds[at] === FADED ? [128, 128, 128] : shades[kinds[at]];
      const strong = data.legend[kinds[at]]?.faint ? 120 : 225;
      colours.set([...shade, kinds[at] === FADED || dim ? 40 : strong], 4 * place);
    });
    this.faded = kinds;
    this.painter.set(places, colours);
    const legend = this.root.querySelector("#legend");
    legend.replaceChildren(
      ...data.legend.map(({ name, colour, count }) => {
        const item = document.createElement("li");
        const dot = document.createElement("span");
        dot.style.background = colour;
        item.append(dot, `${name} (${count.toLocaleString("en")})`);
        return item;
      }),
    );
    this.draw();
  }

  /** Set the view that shows all points. */
  fit() {
    const ends = [[1, -1], [1, -1]]; // least and most along each axis
    this.places.forEach((value, at) => {
      const end = ends[at % 2];
      [end[0], end[1]] = [Math.min(end[0], value), Math.max(end[1], value)];
    });
    const [[left, right], [bottom, top]] = ends;
    const whole = this.camera.scale === 1;
    this.home = { x: (left + right) / 2, y: (bottom + top) / 2, scale: 1 };
    this.extent = [Math.max(0.01, right - left), Math.max(0.01, top - bottom)];
    if (whole) this.camera = { ...this.home };
  }

  size() {
    return [this.frame.clientWidth, this.frame.clientHeight];
  }

  /** The part of the map that is shown: its centre, and clip units for one unit of the map. */
  view() {
    const [width, height] = this.size();
    const [across, up] = this.extent;
    const unit = 0.94 * Math.min(width / across, height / up) * this.camera.scale; // pixels of one unit
    return { x: this.camera.x, y: this.camera.y, across: (2 * unit) / width, up: (2 * unit) / height, unit };
  }

  draw() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => {
      const [width, height] = this.size();
      if (!width || !this.places) return;
      const dense = devicePixelRatio || 1;
      const sides = [Math.round(width * dense), Math.round(height * dense)];
      if (this.canvas.width !== sides[0] || this.canvas.height !== sides[1]) [this.canvas.width, this.canvas.height] = sides;
      const few = this.places.length < 4000;
      this.painter.draw(this.view(), (few ? 8 : 5) * dense * Math.min(2, this.camera.scale ** 0.3));
      this.root.dataset.drawn = String(this.places.length / 2);
    });
  }

  look({ x, y, scale }) {
    this.camera = { x: Math.min(1, Math.max(-1, x)), y: Math.min(1, Math.max(-1, y)), scale };
    if (scale <= 1) this.camera = { ...this.home };
    this.touch();
    this.point(-1);
    this.draw();
  }

  /** Zoom by a factor so that a place of the frame stays where it is. */
  zoom(factor, [px, py]) {
    const before = this.toMap([px, py]);
    this.camera.scale = Math.min(40, Math.max(1, this.camera.scale * factor));
    const after = this.toMap([px, py]);
    this.look({ x: this.camera.x + before[0] - after[0], y: this.camera.y + before[1] - after[1], scale: this.camera.scale });
  }

  toMap([px, py]) {
    const [width, height] = this.size();
    const { x, y, unit } = this.view();
    return [x + (px - width / 2) / unit, y - (py - height / 2) / unit];
  }

  toFrame([mx, my]) {
    const [width, height] = this.size();
    const { x, y, unit } = this.view();
    return [width / 2 + (mx - x) * unit, height / 2 - (my - y) * unit];
  }

  at(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    // Over a map that is shown whole, a wheel without a key scrolls the page, as over any image.
    if (this.camera.scale === 1 && !event.ctrlKey && !event.metaKey && event.deltaY > 0) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 300), this.at(event));
  }

  key(event) {
    const step = 0.3 / this.camera.scale;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const zooms = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 };
    const [width, height] = this.size();
    if (event.key in moves && this.camera.scale > 1) {
      const [x, y] = moves[event.key];
      this.look({ x: this.camera.x + x, y: this.camera.y + y, scale: this.camera.scale });
    } else if (event.key in zooms) this.zoom(zooms[event.key], [width / 2, height / 2]);
    else if (event.key === "Escape") {
      this.drop();
      this.look(this.home);
    } else return;
    event.preventDefault();
  }

  press(event) {
    this.frame.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    this.started = this.at(event);
    this.path = this.tool === "move" ? null : [this.started];
    if (this.pointers.size > 1) this.path = null; // two fingers zoom
  }

  move(event) {
    const here = this.at(event);
    if (!this.pointers.has(event.pointerId)) {
      this.point(this.nearest(here), here);
      return;
    }
    const before = this.pointers.get(event.pointerId);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, here);
    if (other) {
      const length = ([ax, ay], [bx, by]) => Math.max(1, Math.hypot(ax - bx, ay - by));
      this.zoom(length(here, other) / length(before, other), [(here[0] + other[0]) / 2, (here[1] + other[1]) / 2]);
    } else if (this.path) {
      this.path = this.tool === "box" ? this.corners(here) : [...this.path, here];
      this.outline.firstElementChild.setAttribute("points", this.path.map((corner) => corner.join(",")).join(" "));
    } else if (this.camera.scale > 1) {
      const { unit } = this.view();
      const [dx, dy] = [(here[0] - before[0]) / unit, (here[1] - before[1]) / unit];
      this.look({ x: this.camera.x - dx, y: this.camera.y + dy, scale: this.camera.scale });
    }
  }

  corners([x, y]) {
    const [left, top] = this.started;
    return [[left, top], [x, top], [x, y], [left, y]];
  }

  release(event) {
    const here = this.at(event);
    const moved = this.started && Math.hypot(here[0] - this.started[0], here[1] - this.started[1]);
    const path = this.path;
    const alone = this.pointers.size === 1;
    this.drop();
    if (!alone) return;
    if (moved < 4 && (path?.length ?? 0) < 6) {
      const found = this.nearest(here);
      if (found >= 0 && event.pointerType === "touch" && this.hovered !== found) this.point(found, here);
      else if (found >= 0) this.send("opened", found);
      return;
    }
    if (!path || path.length < 3) return;
    const corners = path.map((corner) => this.toMap(corner));
    const picked = [];
    for (let at = 0; at < this.places.length / 2; at += 1) {
      const place = [this.places[2 * at], this.places[2 * at + 1]];
      if (this.faded[at] !== FADED && inside(place, corners)) picked.push(at);
    }
    this.send("picked", picked);
  }

  drop() {
    this.pointers.clear();
    this.path = null;
    this.started = null;
    this.outline.firstElementChild.setAttribute("points", "");
  }

  nearest([px, py]) {
    let [best, least] = [-1, REACH * REACH];
    for (let at = 0; at < (this.places?.length ?? 0) / 2; at += 1) {
      if (this.faded[at] === FADED) continue;
      const [x, y] = this.toFrame([this.places[2 * at], this.places[2 * at + 1]]);
      const far = (x - px) ** 2 + (y - py) ** 2;
      if (far < least) [best, least] = [at, far];
    }
    return best;
  }

  point(found) {
    if (found === this.hovered) return;
    this.hovered = found;
    clearTimeout(this.asking);
    this.tip.hidden = true;
    if (found < 0) return;
    if (this.tips.has(found)) this.showTip(this.tips.get(found));
    else this.asking = setTimeout(() => this.send("hovered", found), REST_MS);
  }

  answer(tip) {
    if (tip.revision !== this.revision) return;
    this.tips.set(tip.at, tip);
    if (this.tips.size > KEPT) this.tips.delete(this.tips.keys().next().value);
    if (tip.at === this.hovered) this.showTip(tip);
  }

  showTip({ at, source, lines }) {
    const image = this.tip.querySelector("img");
    image.hidden = !source;
    if (source) image.src = source;
    this.tip.querySelector("div").replaceChildren(
      ...lines.map((line) => {
        const made = document.createElement("p");
        made.textContent = line;
        return made;
      }),
    );
    this.tip.hidden = false;
    const [width, height] = this.size();
    const [x, y] = this.toFrame([this.places[2 * at], this.places[2 * at + 1]]);
    const [wide, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    this.tip.style.left = `${Math.max(0, x + 14 + wide > width ? x - 14 - wide : x + 14)}px`;
    this.tip.style.top = `${Math.min(Math.max(0, y - high / 2), Math.max(0, height - high))}px`;
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#map");
  if (!root || !data) return undefined;
  const map = swinlensMaps.get(root) ?? new ImageMap(root);
  swinlensMaps.set(root, map);
  map.update(data, setTriggerValue);
  return () => {
    map.end();
    swinlensMaps.delete(root);
  };
}
