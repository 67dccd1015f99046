/** A field for one name, with the server's rule for names. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { nameProblem } from "../names";

interface NameFormProps {
  /** What the field asks for; also begins the sentence that refuses it. */
  label: string;
  what: string;
  submit: ComponentChildren;
  placeholder?: string;
  testId: string;
  submitTestId: string;
  /** Show the label instead of only reading it out. */
  visibleLabel?: boolean;
  autoFocus?: boolean;
  onName: (name: string) => void;
}

export function NameForm(props: NameFormProps) {
  const name = useSignal("");
  const problem = useSignal<string | null>(null);
  const id = useId();
  const submit = (event: Event): void => {
    event.preventDefault();
    const trimmed = name.value.trim();
    problem.value = nameProblem(props.what, trimmed);
    if (problem.value !== null) return;
    name.value = "";
    props.onName(trimmed);
  };
  return (
    <form class="name-form" onSubmit={submit} noValidate>
      <label class={props.visibleLabel === true ? "" : "hidden"} for={id}>
        {props.label}
      </label>
      <div class="name-row">
        <input
          id={id}
          data-testid={props.testId}
          value={name}
          onInput={(event) => (name.value = event.currentTarget.value)}
          placeholder={props.placeholder ?? ""}
          autoFocus={props.autoFocus ?? false}
          autoComplete="off"
          autoCapitalize="none"
          spellcheck={false}
          aria-invalid={problem.value !== null}
          aria-describedby={`${id}-problem`}
        />
        <button type="submit" class={props.visibleLabel === true ? "primary" : ""} data-testid={props.submitTestId}>
          {props.submit}
        </button>
      </div>
      <p class="problem" id={`${id}-problem`} role="alert">
        {problem}
      </p>
    </form>
  );
}
