/** Small pieces that several views share. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { StatusMark } from "../../demo/parts/marks";
import { sentenceOf } from "../api";
import { hrefOf } from "../route";
import type { Session } from "../session";
import type { Status } from "../types";

/** Why a button that changes something cannot be used; null where it can. */
export function whyNot(session: Session): string | null {
  return session.api.credential.mayChange
    ? null
    : "Your token does not have the scope admin: it may read, and change nothing.";
}

/**
 * @param stale the last that was told, and the server cannot be heard now, or has not told again yet
 */
export function Badge({ status, stale = false }: { status: Status; stale?: boolean }) {
  return (
    <span class={`badge is-${status}${stale ? " is-stale" : ""}`} title={stale ? "the last that was told" : undefined}>
      <StatusMark status={status} /> <span>{status}</span>
      {stale && <span class="badge-stale">stale</span>}
    </span>
  );
}

/** A link to a user; an id is text, whatever it looks like. */
export function UserLink({ user }: { user: string }) {
  return (
    <a class="id" href={hrefOf("users", user)}>
      <bdi>{user}</bdi>
    </a>
  );
}

export function Tile({ name, value, hint, testId }: { name: string; value: string; hint?: string; testId?: string }) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd data-testid={testId}>{value}</dd>
      {hint !== undefined && <dd class="hint">{hint}</dd>}
    </div>
  );
}

/** Quantities side by side, each with its name and its figure. */
export function Bars({ rows, empty }: { rows: { name: string; value: number; text: string }[]; empty: string }) {
  if (rows.length === 0) return <p class="empty">{empty}</p>;
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  return (
    <ul class="bars">
      {rows.map((row) => (
        <li key={row.name}>
          <span class="bars-name">{row.name}</span>
          <span class="bars-track" aria-hidden="true">
            <span class="bars-fill" style={{ width: `${(100 * row.value) / most}%` }} />
          </span>
          <span class="bars-text">{row.text}</span>
        </li>
      ))}
    </ul>
  );
}

interface ConfirmProps {
  title: string;
  action: string;
  children: ComponentChildren;
  /** Does it; what it throws is shown. */
  onConfirm: () => Promise<void>;
  onClose: () => void;
}

/** Asks before something is done that cannot be undone. */
export function Confirm({ title, action, children, onConfirm, onClose }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const problem = useSignal<string | null>(null);
  const busy = useSignal(false);
  useEffect(() => dialog.current?.showModal(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    busy.value = true;
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      problem.value = sentenceOf(error);
      busy.value = false;
    }
  };
  return (
    <dialog ref={dialog} class="confirm card" aria-labelledby="confirm-title" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id="confirm-title">{title}</h2>
        {children}
        <p class="problem" role="alert">
          {problem.value}
        </p>
        <div class="confirm-actions">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="danger" disabled={busy.value} data-testid="confirm">
            {action}
          </button>
        </div>
      </form>
    </dialog>
  );
}
