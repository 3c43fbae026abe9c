// Requests of which only the last counts: a new one aborts the one before.

export class Latest {
  private running: AbortController | null = null;
  private readonly page: AbortSignal;

  constructor(page: AbortSignal) {
    this.page = page;
    page.addEventListener("abort", () => this.running?.abort());
  }

  /** Abort what is running. */
  stop(): void {
    this.running?.abort();
  }

  /** Run `work`, after aborting the run before. Return what it returns, or undefined if it was aborted meanwhile. */
  async run<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result | undefined> {
    this.running?.abort();
    const own = new AbortController();
    this.running = own;
    if (this.page.aborted) return undefined;
    try {
      const result = await work(own.signal);
      return own.signal.aborted ? undefined : result;
    } catch (error) {
      if (own.signal.aborted) return undefined;
      throw error;
    }
  }
}

/** Return a function that calls `action` once it was not called for `wait` milliseconds. */
export function debounced(action: () => void, wait: number, page: AbortSignal): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  page.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
}
