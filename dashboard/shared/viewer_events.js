
// Sends what the user does to the page, which `new_events` of `viewer.py` reads: the last events are a state of the
// component, and by their numbers the page knows those that are new. Why these are no triggers is said there.
const SWINLENS_LAST_EVENTS = 8;
let swinlensNumber = 0;

/** Let `held.send(event, value)` send events; `held` outlives the component's calls. */
function swinlensSendEvents(held, session, setStateValue) {
  held.send = (event, value) => {
    swinlensNumber = Math.max(swinlensNumber + 1, Date.now());
    const sent = { number: swinlensNumber, session, event, value };
    held.events = [...(held.events ?? []), sent].slice(-SWINLENS_LAST_EVENTS);
    setStateValue("events", held.events);
  };
}
