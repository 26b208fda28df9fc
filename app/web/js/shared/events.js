// Events between the parts of the page. A tab is made when it is first shown: an order that must not
// be missed is handed over, and waits until the tab takes it.

const bus = new EventTarget();
const waiting = new Map();

export function emit(name, detail) {
  bus.dispatchEvent(new CustomEvent(name, { detail }));
}

export function listen(name, heard) {
  bus.addEventListener(name, (event) => heard(/** @type {CustomEvent} */ (event).detail));
}

// The newest value of a name waits; whoever takes it has it alone.
export function handOver(name, value) {
  waiting.set(name, value);
  emit(name);
}

// Takes what waits now, and whatever is handed over later.
export function takeOver(name, take) {
  const look = () => {
    if (!waiting.has(name)) return;
    const value = waiting.get(name);
    waiting.delete(name);
    take(value);
  };
  listen(name, look);
  look();
}
