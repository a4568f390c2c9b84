
// The viewer as a Streamlit component. What the user has set outlives a visit to another page, where the component is
// removed; badges arrive by a component of their own, so that the maps need not be sent again.
const swinlensKept = new Map();
const swinlensViewers = new WeakMap();
const SWINLENS_PATIENCE = 2000; // ms

function swinlensBadges(name) {
  return (globalThis.swinlensBadges ??= {})[name] ?? {};
}

// A stroke is answered at once by a request of its own, and then by the page, which computes the maps. Strokes wait for
// each other: the page must get them in their order.
function swinlensStroke(stroke, token, held) {
  const ask = async () => {
    try {
      const signal = AbortSignal.timeout(SWINLENS_PATIENCE);
      const answer = await fetch("stroke", { method: "POST", body: JSON.stringify({ token, stroke }), signal });
      if (answer.ok) held.viewer?.answer(await answer.json());
    } catch {
      // The page answers too.
    }
    held.send("stroke", stroke);
  };
  held.strokes = (held.strokes ?? Promise.resolve()).then(ask);
}

export default function ({ data, parentElement, setStateValue }) {
  const place = parentElement.querySelector("#viewer");
  if (!place || !data) return undefined;
  const { name, payload } = data;
  // Streamlit may draw another component of the page in the same place: it has a name and events of its own.
  const held = swinlensViewers.get(place) ?? {};
  swinlensViewers.set(place, held);
  swinlensSendEvents(held, data.session, setStateValue);
  if (held.name !== name) {
    held.viewer?.destroy();
    held.viewer = null;
    held.events = [];
  }
  held.name = name;
  held.rows = payload.rows;
  // Rows move when an image is removed: the page finds a row by its title. See `seen_row` of `comparison.py`.
  const titled = (event) => ({ ...event, title: held.rows[event.row]?.title });
  if (held.viewer) {
    held.viewer.update(payload);
  } else {
    if (!swinlensKept.has(name)) swinlensKept.set(name, {});
    held.viewer = mount(place, payload, {
      kept: swinlensKept.get(name),
      onLook: (look) => swinlensLook(look, held),
      onCell: (cell) => held.send("cell", titled(cell)),
      onClass: data.classes ? (asked) => held.send("asked", titled(asked)) : undefined,
      onContrast: data.classes ? (asked) => held.send("asked", titled(asked)) : undefined,
      onColumn: (change) => held.send("columns", change),
      onPoint: data.points ? (place) => held.send("point", place) : undefined,
      onStroke: data.brush ? (stroke) => swinlensStroke(titled(stroke), data.token, held) : undefined,
    });
  }
  held.listen ??= ({ detail }) => detail === held.name && held.viewer?.badges(swinlensBadges(held.name));
  document.addEventListener("swinlens-badges", held.listen);
  held.viewer.badges(swinlensBadges(name));
  const unfollow = swinlensFollow(held);
  return () => {
    unfollow();
    document.removeEventListener("swinlens-badges", held.listen);
    held.viewer?.destroy();
    swinlensViewers.delete(place);
  };
}
