// A round of the quiz: a circle is placed on an image by a click, a touch or the arrow keys, and confirmed by a button
// or Enter; then the heat map is shown with the circle and the best one.
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export default function ({ data, parentElement, setTriggerValue }) {
  const board = parentElement.querySelector("#board");
  if (!board || !data) return;
  const [image, own, best, status] = [".photo", ".own", ".best", ".place"].map((part) => parentElement.querySelector(part));
  const button = parentElement.querySelector("button");
  const held = (board.held ??= {});
  if (held.round !== data.round) Object.assign(held, { round: data.round, point: [0.5, 0.5] });
  const done = data.guess !== null;
  if (done) held.point = data.guess;
  const show = (circle, [x, y]) => {
    Object.assign(circle.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${200 * data.radius}%` });
  };
  const move = (x, y) => {
    held.point = [x, y].map((each) => Math.min(1, Math.max(0, each)));
    show(own, held.point);
    const [across, down] = held.point.map((each) => Math.round(100 * each));
    status.textContent = `${across} % from the left, ${down} % from the top`;
  };
  if (image.getAttribute("src") !== data.image) image.src = data.image;
  image.alt = data.alt;
  show(own, held.point);
  best.hidden = !done;
  if (done) show(best, data.best);
  button.hidden = status.hidden = done;
  board.tabIndex = done ? -1 : 0;
  board.setAttribute("role", done ? "group" : "application");
  board.setAttribute("aria-label", done ? data.alt : `${data.alt}. Arrow keys move the circle, Enter confirms.`);
  const confirm = () => setTriggerValue("guess", { round: data.round, x: held.point[0], y: held.point[1] });
  board.onclick = (event) => {
    if (done) return;
    const box = board.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  board.onkeydown = (event) => {
    if (done || !(event.key in KEYS || event.key === "Enter")) return;
    event.preventDefault();
    if (event.key === "Enter") return confirm();
    const [x, y] = held.point;
    const step = event.shiftKey ? 0.1 : 0.02;
    move(x + step * KEYS[event.key][0], y + step * KEYS[event.key][1]);
  };
  button.onclick = confirm;
}
