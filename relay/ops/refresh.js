/* Asking again and again: every 10 s while the page is seen, less often while relay does not answer, never twice at once. */

const EVERY_MS = 10_000;
const EVERY_MAX_MS = 120_000;

export class Refresh {
  #load;
  #told;
  #timer = 0;
  #again = false;
  #running = false;
  #wanted = false;
  #every = EVERY_MS;
  #last = -Infinity;

  /** `load` asks everything and gives the first error, or null; `told` shows `{ paused, failed, next }` after each change. */
  constructor(load, told) {
    this.#load = load;
    this.#told = told;
    this.paused = false;
    this.failed = null;
    document.addEventListener("visibilitychange", () => this.#plan());
  }

  /** Begin, or ask at once. While an answer is awaited, it is asked once more behind it. */
  async now() {
    this.#wanted = true;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    clearTimeout(this.#timer);
    try {
      do {
        this.#again = false;
        this.failed = await this.#load();
      } while (this.#again && this.#wanted);
    } finally {
      this.#running = false;
    }
    this.#last = performance.now();
    this.#every = this.failed ? Math.min(this.#every * 2, EVERY_MAX_MS) : EVERY_MS;
    this.#plan();
  }

  /** End, until `now` is called. */
  stop() {
    this.#wanted = false;
    this.failed = null;
    this.#every = EVERY_MS;
    clearTimeout(this.#timer);
  }

  /** Stop asking by itself, or go on. */
  pause(paused) {
    this.paused = paused;
    if (paused) this.#plan();
    else this.now();
  }

  #plan() {
    clearTimeout(this.#timer);
    if (!this.#wanted) return;
    const goes = !this.paused && !document.hidden && !this.#running;
    const left = Math.max(0, this.#last + this.#every - performance.now());
    if (goes) this.#timer = setTimeout(() => this.now(), left);
    this.#told({ paused: this.paused, failed: this.failed, next: goes && this.failed ? new Date(Date.now() + left) : null });
  }
}
