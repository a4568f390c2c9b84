// Keys and swipes of the large view: they press its buttons. When it closes, the sheet gets the focus back.
const SWIPE = 60; // pixels

function go(step) {
  const button = document.querySelector(`.st-key-large_${step < 0 ? "previous" : "next"} button`);
  if (button && !button.disabled) button.click();
}

/** Whether arrow keys or swipes have a meaning of their own where an event happened. */
function isTaken(event, selector) {
  return event.composedPath().some((part) => part.matches?.(selector));
}

export default function ({ data, parentElement }) {
  const held = (globalThis.swinlensLarge ??= {});
  held.name = data.name;
  held.end?.();
  const onKey = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (isTaken(event, "input, select, textarea, .frame")) return;
    event.preventDefault();
    go(step);
  };
  let start = null;
  const onTouchStart = (event) => {
    start = null;
    if (event.touches.length > 1 || isTaken(event, "input, select, .zoomed")) return;
    // A strip of maps scrolls sideways first; at its end, a further swipe goes on to the next image.
    const strip = event.composedPath().find((part) => part.matches?.(".row") && part.scrollWidth > part.clientWidth + 1);
    const { clientX: x, clientY: y } = event.touches[0];
    start = {
      x,
      y,
      first: !strip || strip.scrollLeft < 2,
      last: !strip || strip.scrollLeft + strip.clientWidth > strip.scrollWidth - 2,
    };
  };
  const onTouchEnd = (event) => {
    if (!start) return;
    const { clientX, clientY } = event.changedTouches[0];
    const [across, down] = [clientX - start.x, clientY - start.y];
    if (Math.abs(across) < SWIPE || Math.abs(across) < 2 * Math.abs(down)) return;
    if (across < 0 ? start.last : start.first) go(across < 0 ? 1 : -1);
  };
  const dialog = parentElement.getRootNode().host?.closest("[role=dialog]") ?? document;
  document.addEventListener("keydown", onKey);
  dialog.addEventListener("touchstart", onTouchStart, { passive: true });
  dialog.addEventListener("touchend", onTouchEnd, { passive: true });
  held.end = () => {
    document.removeEventListener("keydown", onKey);
    dialog.removeEventListener("touchstart", onTouchStart);
    dialog.removeEventListener("touchend", onTouchEnd);
    held.end = null;
  };
  return () => {
    held.end?.();
    document.dispatchEvent(new CustomEvent("swinlens-large-closed", { detail: held.name }));
  };
}
