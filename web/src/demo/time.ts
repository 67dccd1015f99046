/** Times as people read them. */

const pad = (value: number, width: number): string => String(value).padStart(width, "0");

/** The local time of day to the millisecond, e.g. `14:03:05.120`. */
export function clockTime(at: number): string {
  const t = new Date(at);
  return `${pad(t.getHours(), 2)}:${pad(t.getMinutes(), 2)}:${pad(t.getSeconds(), 2)}.${pad(t.getMilliseconds(), 3)}`;
}

/** How long ago, in the largest unit that fits, e.g. `3 min ago`. */
export function ago(at: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - at) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ago`;
  const days = Math.floor(hours / 24);
  return days < 14 ? `${days} d ago` : `on ${new Date(at).toLocaleDateString()}`;
}
