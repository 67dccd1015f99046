import { Mark } from "./marks";
import { NameForm } from "./name-form";

const SUGGESTED = ["alice", "bob", "carol"];

export function SignIn({ onSignIn }: { onSignIn: (user: string) => void }) {
  return (
    <main class="sign-in">
      <section class="card welcome" aria-labelledby="welcome-title">
        <Mark />
        <h1 id="welcome-title">Who are you?</h1>
        <p class="muted">
          Any name will do. Open this page in a second window as somebody else, and watch each other come, reload and
          go.
        </p>
        <NameForm
          label="Your name"
          what="A name"
          submit="Sign in"
          testId="sign-in-name"
          submitTestId="sign-in-submit"
          visibleLabel
          autoFocus
          onName={onSignIn}
        />
        <p class="suggested">
          <span class="muted">or be</span>
          {SUGGESTED.map((user) => (
            <button key={user} type="button" class="quiet" onClick={() => onSignIn(user)}>
              {user}
            </button>
          ))}
        </p>
      </section>
    </main>
  );
}
