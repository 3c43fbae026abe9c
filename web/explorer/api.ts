// The only place that asks the server. Every request goes to the server that sent the page.

/** An answer that is an error: problem details (RFC 9457), or no answer at all (status 0). */
export class ApiError extends Error {
  readonly status: number;
  /** Seconds after which the server wants to be asked again, if it said so. */
  readonly retryAfter: number | null;

  constructor(status: number, message: string, retryAfter: number | null = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const TOKEN = "foldatlas-token"; // key of sessionStorage: forgotten when the tab is closed

/** Parameters of a request; of a list each value is one, and null, undefined and empty texts are left out. */
export type Query = Readonly<Record<string, string | number | readonly string[] | null | undefined>>;

export interface Options {
  query?: Query;
  signal?: AbortSignal | undefined;
  /** Sent as JSON by POST. */
  body?: unknown;
  method?: "GET" | "POST" | "DELETE";
  /** Ask again while the server is preparing its answer, and report why. */
  waiting?: (reason: string) => void;
}

export class Api {
  /** Asks the user for a token, with the reason that the server gave. Resolves to null if the user has none. */
  askToken: (reason: string) => Promise<string | null> = () => Promise.resolve(null);
  private asked: Promise<string | null> | null = null;

  /** Return the address of a route, for links and downloads. `path` has no slash at its beginning. */
  url(path: string, query: Query = {}): string {
    const url = new URL(path, document.baseURI);
    for (const [name, values] of Object.entries(query))
      for (const value of Array.isArray(values) ? values : [values])
        if (value !== null && value !== undefined && value !== "") url.searchParams.append(name, String(value));
    return url.href;
  }

  /** True where requests need a token, so that a plain link cannot download. */
  get needsToken(): boolean {
    return sessionStorage.getItem(TOKEN) !== null;
  }

  async json<Answer>(path: string, options: Options = {}): Promise<Answer> {
    return (await (await this.fetch(path, options)).json()) as Answer;
  }

  async bytes(path: string, options: Options = {}): Promise<ArrayBuffer> {
    return (await this.fetch(path, options)).arrayBuffer();
  }

  async text(path: string, options: Options = {}): Promise<string> {
    return (await this.fetch(path, options)).text();
  }

  /** Return a good response. Raise ApiError for any other, and AbortError if the signal aborts. */
  async fetch(path: string, options: Options = {}): Promise<Response> {
    const response = await this.send(path, options);
    if (response.ok) return response;
    const reason = await problem(response);
    const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
    if (response.status === 503 && options.waiting && seconds >= 0 && !options.signal?.aborted) {
      options.waiting(reason);
      await new Promise((done) => setTimeout(done, 1000 * Math.min(seconds, 10)));
      return this.fetch(path, options);
    }
    if (response.status !== 401) throw new ApiError(response.status, reason, Number.isNaN(seconds) ? null : seconds);
    sessionStorage.removeItem(TOKEN);
    this.asked ??= this.askToken(reason).finally(() => {
      this.asked = null;
    });
    const token = await this.asked;
    if (token === null) throw new ApiError(401, reason);
    sessionStorage.setItem(TOKEN, token);
    return this.fetch(path, options);
  }

  private async send(path: string, { query, signal, body, method }: Options): Promise<Response> {
    const headers: Record<string, string> = {};
    const token = sessionStorage.getItem(TOKEN);
    if (token !== null) headers["Authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      return await fetch(this.url(path, query), {
        headers,
        signal: signal ?? null,
        method: method ?? (body === undefined ? "GET" : "POST"),
        body: body === undefined ? null : JSON.stringify(body),
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(
        0,
        "The server does not answer. Check that it runs and that the network works, then try again.",
      );
    }
  }
}

async function problem(response: Response): Promise<string> {
  try {
    const details = (await response.json()) as { detail?: unknown; title?: unknown };
    return String(details.detail ?? details.title ?? response.statusText);
  } catch {
    return response.statusText || `status ${response.status}`;
  }
}
