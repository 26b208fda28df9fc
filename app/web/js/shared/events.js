// Events between the parts of the page, and orders that wait for a tab, which is made when it is first shown.

const bus = new EventTarget();
const waiting = new Map();

export const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));
export const listen = (name, heard) =>
  bus.addEventListener(name, (event) => heard(/** @type {CustomEvent} */ (event).detail));

// The newest value of a name waits; whoever takes it has it alone.
export function handOver(name, value) {
  waiting.set(name, value);
  emit(name);
}

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
