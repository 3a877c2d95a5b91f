/* Words, numbers and times in the reader's language and zone. The texts themselves are in texts_en.js and texts_ja.js. */

import { el } from "./dom.js";
import { TEXTS as en } from "./texts_en.js";
import { TEXTS as ja } from "./texts_ja.js";
import { WORDS as wordsEn } from "./words_en.js";
import { WORDS as wordsJa } from "./words_ja.js";

const LANGUAGES = { en: { ...en, ...wordsEn }, ja: { ...ja, ...wordsJa } };

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

let language = navigator.languages.map((name) => name.slice(0, 2)).find((name) => name in LANGUAGES) ?? "en";

/** The language that is spoken, `en` or `ja`. */
export function spoken() {
  return language;
}

/** Speak the other language. */
export function change() {
  language = language === "en" ? "ja" : "en";
}

/** Give a text; some want to know something. */
export function t(name, ...about) {
  const text = LANGUAGES[language][name];
  if (text === undefined) throw new Error(`no text is called ${name}`);
  return typeof text === "function" ? text(...about) : text;
}

/** Give the word for one of relay's own codes, as a batch's state; a code without a word stays as it is. */
export function word(family, code) {
  const text = LANGUAGES[language][`${family}.${code}`];
  return text === undefined ? String(code) : text;
}

/** Write a number. */
export function number(value) {
  return new Intl.NumberFormat(language).format(value);
}

/** Write a size. */
export function size(bytes) {
  const [unit, divided] = bytes < 10_000 ? ["byte", bytes] : bytes < 10_000_000 ? ["kilobyte", bytes / 1e3] : ["megabyte", bytes / 1e6];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: unit === "byte" ? "long" : "short", maximumFractionDigits: 0 }).format(divided);
}

/** Spell a duration in words, rounded down: `23 s`, `34 min`, `5 h 10 min`, `3 days`. */
export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < MINUTE_S) return t("seconds", number(s));
  if (s < HOUR_S) return t("minutes", number(Math.floor(s / MINUTE_S)));
  if (s < DAY_S) {
    const minutes = Math.floor((s % HOUR_S) / MINUTE_S);
    const hours = t("hours", number(Math.floor(s / HOUR_S)));
    return minutes ? t("together", hours, t("minutes", number(minutes))) : hours;
  }
  return t("days", number(Math.floor(s / DAY_S)), Math.floor(s / DAY_S));
}

/** Spell a short time exactly, as an upload's. */
export function exactly(seconds) {
  return seconds < 10 ? t("seconds", new Intl.NumberFormat(language, { maximumSignificantDigits: 2 }).format(Math.max(0, seconds))) : duration(seconds);
}

/** Spell how long ago a moment is, by this browser's clock. */
export function ago(iso) {
  return t("ago", duration((Date.now() - Date.parse(iso)) / 1000));
}

/** Show a moment in the browser's zone; its exact UTC time is its title. Today's without the date. */
export function moment(iso, { seconds = true } = {}) {
  if (!iso) return null;
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  return el("time", { datetime: at.toISOString(), title: at.toISOString() }, clock(at, { seconds }));
}

/** Write a moment as text. */
export function clock(at, { seconds = true } = {}) {
  const now = new Date();
  const today = at.toDateString() === now.toDateString();
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return new Intl.DateTimeFormat(language === "ja" ? "ja-JP" : "en-GB", {
    ...(today ? {} : { month: "short", day: "numeric", ...year }),
    hour: "2-digit",
    minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}),
  }).format(at);
}

/** Mark a sentence of relay's own as the English that it is, for screen readers. */
export function english(text) {
  return text ? el("span", { lang: "en", dir: "auto" }, text) : null;
}
