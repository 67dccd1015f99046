/** Logging in, with an API key or a token. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Mark } from "../../demo/parts/marks";
import { CallError, sentenceOf } from "../api";
import { credentialOf, isSendable } from "../credential";
import { Session } from "../session";

interface Props {
  notice: string | null;
  onOpen: (session: Session) => void;
  onRefused: () => void;
}

export function LogIn({ notice, onOpen, onRefused }: Props) {
  const problem = useSignal(notice);
  const busy = useSignal(false);
  const development = useSignal(false);
  const input = useRef<HTMLInputElement>(null);

  useEffect(() => {
    document.title = "Log in – Stillhere admin";
    void isDevelopment().then((is) => (development.value = is));
  }, []);

  const open = async (secret: string): Promise<void> => {
    busy.value = true;
    problem.value = null;
    try {
      onOpen(await Session.open(credentialOf(secret), onRefused));
    } catch (error) {
      const scope = error instanceof CallError && error.status === 403;
      problem.value = scope ? `${error.message}. An admin token needs the scope admin, or read.` : sentenceOf(error);
    } finally {
      busy.value = false;
    }
  };

  const submit = (event: Event): void => {
    event.preventDefault();
    const secret = input.current?.value ?? "";
    if (isSendable(secret)) void open(secret);
    else problem.value = "A key or a token is one word of printable ASCII.";
  };

  const develop = async (): Promise<void> => {
    try {
      await open(await developmentToken());
    } catch (error) {
      problem.value = sentenceOf(error);
    }
  };

  return (
    <main class="log-in">
      <form class="card welcome" onSubmit={submit}>
        <Mark />
        <h1>Stillhere admin</h1>
        <p class="muted">What this presence server does, and why.</p>
        <label for="secret">API key or token</label>
        <input
          ref={input}
          id="secret"
          type="password"
          autocomplete="off"
          spellcheck={false}
          aria-describedby="secret-hint secret-problem"
          aria-invalid={problem.value !== null}
          data-testid="log-in-secret"
        />
        <p id="secret-hint" class="hint">
          One of <code>admin.api_keys</code>, or a token with the scope <code>admin</code> or <code>read</code>. It is
          kept in the memory of this page only: a reload forgets it.
        </p>
        <p id="secret-problem" class="problem" role="alert" data-testid="log-in-problem">
          {problem.value}
        </p>
        <button type="submit" class="primary" disabled={busy.value} data-testid="log-in-submit">
          Log in
        </button>
        {development.value && (
          <button type="button" disabled={busy.value} data-testid="log-in-dev" onClick={() => void develop()}>
            Continue on this development server
          </button>
        )}
      </form>
    </main>
  );
}

/** The development server lets this machine log in as anybody, and its API document says so. */
async function isDevelopment(): Promise<boolean> {
  try {
    const document = (await (await fetch("/openapi.json")).json()) as { paths: Record<string, unknown> };
    return "/dev/token" in document.paths;
  } catch {
    return false;
  }
}

async function developmentToken(): Promise<string> {
  const answer = await fetch("/dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user: "developer" }),
  });
  if (!answer.ok) throw new CallError(answer.status, "The development log-in is for pages of the same machine only.");
  return ((await answer.json()) as { token: string }).token;
}
