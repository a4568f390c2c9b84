// Buttons beside a page's heading that only the browser can act on: undo, reset, and full screen for a projector.
const TOOLS = {
  undo: ["Undo", "M12.5 8c-2.65 0-5.05 1-6.9 2.6L2 7v9h9l-3.62-3.62A7.99 7.99 0 0 1 20.1 16l2.37-.78A10.5 10.5 0 0 0 12.5 8z"],
  reset: ["Reset", "M12 5V1L7 6l5 5V7a5 5 0 1 1-5 5H5a7 7 0 1 0 7-7z"],
  screen: ["Full screen", "M7 14H5v5h5v-2H7v-3zm-2-4h2V7h3V5H5v5zm12 7h-3v2h5v-5h-2v3zM14 5v2h3v3h2V5h-5z"],
};
const ACTS = {
  undo: () => history.back(),
  reset: () => location.assign(location.pathname), // a new session at the first view
  screen: () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen()),
};

function icon(path) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

export default function ({ parentElement }) {
  const place = parentElement.querySelector("#tools");
  if (!place) return undefined;
  for (const [name, [label, path]] of place.children.length ? [] : Object.entries(TOOLS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.title = label;
    button.setAttribute("aria-label", label);
    button.append(icon(path));
    button.onclick = ACTS[name];
    place.append(button);
  }
  // `history.js` counts the choices in the state of the history's entries.
  place.follow ??= () => {
    place.querySelector("button").disabled = !history.state?.choices;
  };
  place.follow();
  document.addEventListener("swinlens-history", place.follow);
  return () => document.removeEventListener("swinlens-history", place.follow);
}
