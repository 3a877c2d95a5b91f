/* Asking relay. The token lives in a variable of this module, and nowhere else: not in storage, a URL or the page. */

const ANSWER_WITHIN_MS = 20_000;

let token = "";

/** What relay refused, with its own words, or that it could not be reached at all (`status` 0). */
export class Refused extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

/** Keep the token for as long as the page lives. */
export function keep(given) {
  token = given;
}

/** Forget the token. */
export function forget() {
  token = "";
}

/** Ask something relative to the page, so that a path that a proxy puts before it stays. Raises Refused. */
export async function ask(path, { method = "GET", body = undefined } = {}) {
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      headers: {
        Authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error", // a proxy that sends elsewhere, to a login for example, is no relay
      referrerPolicy: "no-referrer",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    text = await response.text();
  } catch (error) {
    throw new Refused(0, error instanceof DOMException && error.name === "TimeoutError" ? "timeout" : "");
  }
  const told = parsed(text);
  if (!response.ok) throw new Refused(response.status, String(told?.detail ?? ""), mistakes(told));
  if (told === null) throw new Refused(response.status, "");
  return told;
}

function parsed(text) {
  try {
    const told = JSON.parse(text);
    return typeof told === "object" ? told : null;
  } catch {
    return null;
  }
}

function mistakes(told) {
  const errors = Array.isArray(told?.errors) ? told.errors : [];
  return errors.map((error) => `${error?.field}: ${error?.message}`);
}

/** Write a path: the parts are percent-encoded, and parameters without a value left out. */
export function path(parts, query = {}) {
  const asked = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(asked.map(([name, value]) => [name, String(value)])).toString();
  return `v1/${parts.map((part) => encodeURIComponent(part)).join("/")}${search ? `?${search}` : ""}`;
}
