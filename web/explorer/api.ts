// The only place that asks the server. Every request goes to the server that sent the page.

/** An answer that is an error: problem details (RFC 9457), or no answer at all (status 0). */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const TOKEN = "foldatlas-token"; // key of sessionStorage: forgotten when the tab is closed

export interface Options {
  query?: Readonly<Record<string, string | number | null | undefined>>;
  signal?: AbortSignal | undefined;
  /** Sent as JSON by POST. */
  body?: unknown;
}

export class Api {
  /** Asks the user for a token, with the reason that the server gave. Resolves to null if the user has none. */
  askToken: (reason: string) => Promise<string | null> = () => Promise.resolve(null);
  private asked: Promise<string | null> | null = null;

  /** Return the address of a route, for links and downloads. `path` has no slash at its beginning. */
  url(path: string, query: Options["query"] = {}): string {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query))
      if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
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
    if (response.status !== 401) throw new ApiError(response.status, reason);
    sessionStorage.removeItem(TOKEN);
    this.asked ??= this.askToken(reason).finally(() => {
      this.asked = null;
    });
    const token = await this.asked;
    if (token === null) throw new ApiError(401, reason);
    sessionStorage.setItem(TOKEN, token);
    return this.fetch(path, options);
  }

  private async send(path: string, { query, signal, body }: Options): Promise<Response> {
    const headers: Record<string, string> = {};
    const token = sessionStorage.getItem(TOKEN);
    if (token !== null) headers["Authorization"] = `Bearer ${token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    try {
      return await fetch(this.url(path, query), {
        headers,
        signal: signal ?? null,
        ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
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
