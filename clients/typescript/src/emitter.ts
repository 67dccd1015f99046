/** Typed events. */
export class Emitter<Events> {
  readonly #entries = new Set<{ name: keyof Events; listener: (event: never) => void }>();

  /** @returns a function that ends it */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const entry = { name, listener }; // of its own: the same function may be given twice, and ends twice
    this.#entries.add(entry);
    return () => void this.#entries.delete(entry);
  }

  /** Call the listeners of an event; what one of them throws is reported and harms nobody else. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const entry of [...this.#entries]) {
      if (entry.name !== name) continue;
      try {
        entry.listener(event as never);
      } catch (error) {
        // as an uncaught error, so that the page's own reporting sees it
        (globalThis.reportError ?? console.error)(error);
      }
    }
  }
}
