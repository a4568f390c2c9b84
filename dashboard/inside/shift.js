// How windows shift, step by step: they move by half a window, the map is rolled so that all are whole, and the mask
// separates what the roll brings together. `data` has the image, the sizes of token, map, window and shift, and texts.

const SECONDS = 1.2; // from one step to the next
const PAUSE = 1.6; // at a step while it plays
const SIDE = 480; // pixels of the drawing at most
const LAST = 3;
const reduced = matchMedia("(prefers-reduced-motion: reduce)");

export default function ({ data, parentElement }) {
  const figure = parentElement.querySelector(".shift-figure");
  if (!figure || !data) return undefined;
  figure.stop?.(); // of the block or image that was shown before
  const find = (name) => parentElement.querySelector(`.shift-${name}`);
  const [canvas, words, play, back, next] = ["canvas", "words", "play", "back", "next"].map(find);
  const [rows, columns] = data.map;
  const scale = SIDE / Math.max(rows * data.token[0], columns * data.token[1]);
  const [tall, wide] = [data.token[0] * scale, data.token[1] * scale]; // of a token on the canvas
  Object.assign(canvas, { width: Math.round(columns * wide), height: Math.round(rows * tall) });
  const photo = new Image();
  let step = 0; // where it stands or goes to
  let place = 0; // what is drawn, between two steps
  let playing = false;
  let frame = 0;
  let timer = 0;

  function draw() {
    const context = canvas.getContext("2d");
    const within = (from) => Math.min(Math.max(place - from, 0), 1);
    const [moved, rolled, masked] = [within(0), within(1), within(2)];
    const [up, left] = [data.shift[0] * tall * rolled, data.shift[1] * wide * rolled];
    context.fillStyle = "#7f7f7f"; // padding
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    for (const y of [-up, canvas.height - up]) {
      for (const x of [-left, canvas.width - left]) {
        context.fillRect(x, y, canvas.width, canvas.height);
        context.drawImage(photo, x, y, data.size[1] * scale, data.size[0] * scale);
      }
    }
    const lines = new Path2D();
    const [down, right] = [data.shift[0] * tall * (moved - rolled), data.shift[1] * wide * (moved - rolled)];
    for (let y = down; y < canvas.height; y += data.window[0] * tall) {
      lines.moveTo(0, y);
      lines.lineTo(canvas.width, y);
    }
    for (let x = right; x < canvas.width; x += data.window[1] * wide) {
      lines.moveTo(x, 0);
      lines.lineTo(x, canvas.height);
    }
    stroke(context, lines, "#ffffff", 2);
    if (!masked) return;
    const seams = new Path2D();
    if (data.shift[0]) {
      seams.moveTo(0, canvas.height - up);
      seams.lineTo(canvas.width, canvas.height - up);
    }
    if (data.shift[1]) {
      seams.moveTo(canvas.width - left, 0);
      seams.lineTo(canvas.width - left, canvas.height);
    }
    context.globalAlpha = masked;
    stroke(context, seams, "#ffc933", 3);
    context.globalAlpha = 1;
  }

  function stroke(context, lines, colour, width) {
    for (const [ink, thick] of [["rgb(0 0 0 / 0.6)", width + 2.5], [colour, width]]) {
      Object.assign(context, { strokeStyle: ink, lineWidth: thick });
      context.stroke(lines);
    }
  }

  function show() {
    words.textContent = `${step + 1} of ${LAST + 1}: ${data.texts[step]}`;
    canvas.setAttribute("aria-label", data.texts[step]);
    play.textContent = playing ? "Pause" : "Play";
    back.disabled = step === 0;
    next.disabled = step === LAST;
  }

  function go(to) {
    step = Math.min(Math.max(to, 0), LAST);
    show();
    cancelAnimationFrame(frame);
    // Backwards and around it jumps; only what happens in the block is shown as a movement.
    if (reduced.matches || step <= place) {
      place = step;
      draw();
      return;
    }
    const [from, start] = [place, performance.now()];
    const move = (now) => {
      const share = Math.min((now - start) / (1000 * SECONDS * (step - from)), 1);
      place = from + (step - from) * (0.5 - 0.5 * Math.cos(Math.PI * share));
      draw();
      if (share < 1) frame = requestAnimationFrame(move);
    };
    frame = requestAnimationFrame(move);
  }

  function setPlaying(on) {
    playing = on;
    clearInterval(timer);
    if (on) {
      const advance = () => go(step === LAST ? 0 : step + 1);
      timer = setInterval(advance, 1000 * (SECONDS + PAUSE));
      advance();
    }
    show();
  }

  const walk = (by) => {
    setPlaying(false);
    go(step + by);
  };
  play.onclick = () => setPlaying(!playing);
  back.onclick = () => walk(-1);
  next.onclick = () => walk(1);
  figure.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) walk(by);
    else if (event.key === "Home") walk(-LAST);
    else if (event.key === "End") walk(LAST);
    else return;
    event.preventDefault();
  };
  photo.onload = draw;
  photo.src = data.image;
  show();
  figure.stop = () => {
    clearInterval(timer);
    cancelAnimationFrame(frame);
  };
  return figure.stop;
}
