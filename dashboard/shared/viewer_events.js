
// Sends what the user does to the page, which `new_events` of `viewer.py` reads: the last events are a state of the
// component, and by their numbers the page knows those that are new. See there why these are not triggers.
const SWINLENS_LAST_EVENTS = 8;
let swinlensNumber = 0;

/** Let `held.send(event, value)` send events; `held` outlives the component's calls. */
function swinlensSendEvents(held, session, setStateValue) {
  held.send = (event, value) => {
    swinlensNumber = Math.max(swinlensNumber + 1, Date.now());
    const sent = { number: swinlensNumber, session, event, value };
    // Of several looks the last one counts: the others must not push out a click.
    const earlier = (held.events ?? []).filter((one) => event !== "look" || one.event !== "look");
    held.events = [...earlier, sent].slice(-SWINLENS_LAST_EVENTS);
    setStateValue("events", held.events);
  };
}
