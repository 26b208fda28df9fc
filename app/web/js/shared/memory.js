// What the browser keeps for the next visit.

// Storage may be refused (private windows, embedding): the page then forgets on reload, no more.
export const memory = {
  fallback: new Map(),
  get(key) {
    try {
      return localStorage.getItem(`sol.${key}`);
    } catch {
      return this.fallback.get(key) ?? null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`sol.${key}`, value);
    } catch {
      this.fallback.set(key, value);
    }
  },
};

// What was remembered of a form; {} for what another release kept in a way that cannot be read.
export function recall(key) {
  try {
    return JSON.parse(memory.get(key)) || {};
  } catch {
    return {};
  }
}

export function remember(key, value) {
  memory.set(key, JSON.stringify(value));
}
