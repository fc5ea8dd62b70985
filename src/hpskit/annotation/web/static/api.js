/**
 * Requests to the server: one JSON shape for errors, the header against forgery, retries that wait as they are told.
 *
 * @typedef {(seconds: number) => void} OnWait  called before each wait, so that the page can say so
 */

const PATIENCE = 20_000; // ms: without an answer for so long, there is no connection

/** A refusal. `status` 0 means that no answer came at all. */
export class ApiError extends Error {
  /** @param {number} status @param {any} body @param {number} [retryAfter] seconds that the server asks for */
  constructor(status, body, retryAfter = 0) {
    super(body?.error?.message ?? (status ? `the server answered ${status}` : "no connection"));
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter;
  }

  /** The same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }

  /** The person has to come in again; nothing is wrong with the request. */
  get session() {
    return this.status === 401 || this.status === 403;
  }
}

/**
 * @param {string} method @param {string} path @param {unknown} [body]
 * @param {{signal?: AbortSignal, keepalive?: boolean}} [options] @returns {Promise<any>} what the server says
 */
export async function ask(method, path, body, { signal, keepalive = false } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]')?.content ?? "";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  // Not AbortSignal.any: phones of 2023 lack it.
  const limit = new AbortController();
  const stop = () => limit.abort();
  const timer = setTimeout(stop, PATIENCE);
  signal?.addEventListener("abort", stop);
  let response;
  try {
    signal?.throwIfAborted();
    response = await fetch(path, {
      method, headers, keepalive, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
      credentials: "same-origin", redirect: "error", signal: limit.signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, null);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
  const said = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, said, readRetryAfter(response));
  return said;
}

/** @param {Response} response @returns {number} seconds; both forms of the header, at most ten minutes */
function readRetryAfter(response) {
  const value = response.headers.get("Retry-After");
  if (!value) return 0;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Math.min(600, Math.max(0, seconds || 0));
}

/**
 * Ask until there is an answer; only refusals that will not change are thrown.
 * @param {string} method @param {string} path @param {unknown} body
 * @param {{signal?: AbortSignal, onWait?: OnWait}} [options] @returns {Promise<any>}
 */
export async function insist(method, path, body, { signal, onWait } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await ask(method, path, body, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || !error.passing) throw error;
      const seconds = Math.max(error.retryAfter, backoff(attempt));
      onWait?.(seconds);
      await pause(seconds, signal, error.retryAfter === 0);
    }
  }
}

/** Half fixed, half random, so that a room full of browsers does not come back at once. @param {number} attempt */
export function backoff(attempt) {
  return Math.min(30, 0.5 * 2 ** attempt) * (0.5 + Math.random() / 2);
}

/** @param {number} seconds @param {AbortSignal} [signal] @param {boolean} [early] end when the connection returns */
function pause(seconds, signal, early) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal?.removeEventListener("abort", stop);
      resolve();
    };
    const stop = () => {
      end();
      reject(signal.reason);
    };
    const timer = setTimeout(end, seconds * 1000);
    if (early) window.addEventListener("online", end);
    signal?.addEventListener("abort", stop);
  });
}
