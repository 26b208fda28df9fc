// Values that the browser keeps for the next visit, or where it refuses (private windows) until a reload.

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

export const keptOpen = (key, isOpen = false) => ({ open: (memory.get(key) ?? (isOpen && "open")) === "open",
  ontoggle: (event) => memory.set(key, event.currentTarget.open ? "open" : "closed") });

// A form's remembered values; {} for those of another release that cannot be read.
export function recall(key) {
  try {
    const kept = JSON.parse(memory.get(key));
    return typeof kept === "object" && kept ? kept : {};
  } catch {
    return {};
  }
}

export const remember = (key, value) => memory.set(key, JSON.stringify(value));
