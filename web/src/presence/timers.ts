/** Timers by name: setting one again replaces it. */

import type { Environment, Timer } from "./environment";

/** Milliseconds; browsers fire a longer timer at once. */
export const LONGEST_TIMER = 2 ** 31 - 1;

export class Timers {
  readonly #env: Pick<Environment, "setTimeout" | "clearTimeout">;
  readonly #running = new Map<string, Timer>();

  constructor(env: Pick<Environment, "setTimeout" | "clearTimeout">) {
    this.#env = env;
  }

  has(name: string): boolean {
    return this.#running.has(name);
  }

  set(name: string, ms: number, run: () => void): void {
    this.cancel(name);
    const timer = this.#env.setTimeout(() => {
      this.#running.delete(name);
      run();
    }, ms);
    this.#running.set(name, timer);
  }

  cancel(name: string): void {
    const timer = this.#running.get(name);
    if (timer === undefined) return;
    this.#env.clearTimeout(timer);
    this.#running.delete(name);
  }

  cancelAll(): void {
    for (const name of [...this.#running.keys()]) this.cancel(name);
  }
}
