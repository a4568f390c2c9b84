// A tour of three steps at the first visit; the browser remembers that it was dismissed.
const STEPS = [
  [".st-key-film", "Images", "Click a sample, or drop and paste images of your own anywhere on the page."],
  [".st-key-models", "Models", "Each column is a model. Add up to four, and see where they look at the same image."],
  [".st-key-grid_place", "Heat maps", "Bright places speak for the class under the map. Click another class to ask why."],
];
const KEY = "swinlens-tour";

function seen() {
  try {
    return localStorage.getItem(KEY) === "seen";
  } catch {
    return true; // no storage: better no tour than one at every visit
  }
}

export default function ({ parentElement }) {
  const card = parentElement.querySelector("#tour");
  if (!card || card.dataset.made || seen()) return undefined;
  card.dataset.made = "yes";
  const [title, text, next, skip] = ["h2", "p", "button", "button"].map((tag) => document.createElement(tag));
  next.type = skip.type = "button";
  next.className = "next";
  skip.textContent = "Skip the tour";
  const actions = document.createElement("div");
  actions.append(skip, next);
  card.append(title, text, actions);
  let step = 0;
  const mark = (on) => {
    const target = document.querySelector(STEPS[step]?.[0]);
    if (target) target.style.outline = on ? "3px solid var(--st-primary-color, #0069A6)" : "";
    if (target) target.style.outlineOffset = on ? "4px" : "";
  };
  const close = () => {
    mark(false);
    card.hidden = true;
    try {
      localStorage.setItem(KEY, "seen");
    } catch {
      // The storage is full or was turned off since: the tour is shown at the next visit too.
    }
  };
  const show = () => {
    title.textContent = `${step + 1} of ${STEPS.length}: ${STEPS[step][1]}`;
    text.textContent = STEPS[step][2];
    next.textContent = step + 1 < STEPS.length ? "Next" : "Done";
    mark(true);
  };
  next.onclick = () => {
    mark(false);
    step += 1;
    if (step < STEPS.length) show();
    else close();
  };
  skip.onclick = close;
  card.hidden = false;
  show();
  return () => mark(false);
}
