/** Small drawings. Each status has a shape of its own, so that none is told by colour alone. */

import type { Status } from "stillhere";

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="26" height="26" fill="none" aria-hidden="true">
      <circle cx="16" cy="16" r="14" stroke="currentColor" stroke-width="2" opacity=".3" />
      <circle cx="16" cy="16" r="9.5" stroke="currentColor" stroke-width="2" opacity=".65" />
      <circle cx="16" cy="16" r="5" fill="currentColor" />
    </svg>
  );
}

export function StatusMark({ status }: { status: Status | "left" | "invisible" }) {
  return (
    <svg class={`status-mark is-${status}`} viewBox="0 0 12 12" width="12" height="12" fill="none" aria-hidden="true">
      {SHAPES[status]}
    </svg>
  );
}

const disc = <circle cx="6" cy="6" r="5" fill="currentColor" />;
const ring = <circle cx="6" cy="6" r="4" stroke="currentColor" stroke-width="2" />;
const SHAPES = {
  online: disc,
  away: <path d="M5.2 1.1A5 5 0 1 0 10.9 6.8 4.3 4.3 0 0 1 5.2 1.1Z" fill="currentColor" />,
  busy: (
    <>
      {disc}
      <path d="M3.4 6h5.2" stroke="var(--surface)" stroke-width="1.8" stroke-linecap="round" />
    </>
  ),
  offline: ring,
  left: ring,
  invisible: <circle cx="6" cy="6" r="4.4" stroke="currentColor" stroke-width="1.6" stroke-dasharray="2.2 2.2" />,
  unknown: (
    <>
      <circle cx="6" cy="6" r="4.4" stroke="currentColor" stroke-width="1.2" stroke-dasharray="1.6 1.6" />
      <path d="M6 3.4v3M6 8.4v.2" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" />
    </>
  ),
};

/** A person's initials on a colour of their own, with the status at the corner. */
export function Avatar({ user, status, large = false }: { user: string; status: Status; large?: boolean }) {
  return (
    <span class={large ? "avatar is-large" : "avatar"} style={{ "--hue": hueOf(user) }} aria-hidden="true">
      {initialsOf(user)}
      <span class="avatar-status">
        <StatusMark status={status} />
      </span>
    </span>
  );
}

function initialsOf(user: string): string {
  const words = user.split(/[\s._:@-]+/u).filter((word) => word !== "");
  const firsts = (words.length > 0 ? words : [user]).slice(0, 2).map((word) => [...word][0] ?? "");
  return firsts.join("").toLocaleUpperCase();
}

/** An even spread over the circle; the same name has the same colour everywhere. */
function hueOf(user: string): number {
  let hash = 0x811c9dc5;
  for (const char of user) hash = Math.imul(hash ^ (char.codePointAt(0) ?? 0), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return (hash >>> 8) % 360;
}
