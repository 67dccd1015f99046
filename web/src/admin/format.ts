/** Figures and times as people read them. */

const pad = (value: number, width = 2): string => String(value).padStart(width, "0");

/** The local time of day to the millisecond, e.g. `14:03:05.120`; of another day with its date. */
export function instant(at: number, now: number = at): string {
  const t = new Date(at);
  const time = `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}.${pad(t.getMilliseconds(), 3)}`;
  if (t.toDateString() === new Date(now).toDateString()) return time;
  return `${t.getFullYear()}-${pad(t.getMonth() + 1)}-${pad(t.getDate())} ${time}`;
}

/** A length of time: `800 ms`, `1.8 s`, `45 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`. */
export function length(ms: number): string {
  if (Math.round(ms) < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  if (whole < 7200) return parts(whole, 60, "min", 1, "s");
  return whole < 172_800 ? parts(whole, 3600, "h", 60, "min") : parts(whole, 86_400, "d", 3600, "h");
}

function parts(seconds: number, big: number, bigName: string, small: number, smallName: string): string {
  const rest = Math.floor((seconds % big) / small);
  const head = `${Math.floor(seconds / big)} ${bigName}`;
  return rest === 0 ? head : `${head} ${rest} ${smallName}`;
}

/** A count or a rate: whole from 100 on, with one or two digits below, thousands apart. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const digits = Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** How long ago, in the largest unit that fits. */
export function ago(at: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** `1 connection`, `2 connections`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${figure(count)} ${count === 1 ? one : many}`;
}

/** The causes as people say them, e.g. `going away`. */
export function spoken(cause: string): string {
  return cause.replaceAll("_", " ");
}
