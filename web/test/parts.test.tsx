import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Avatar } from "../src/demo/parts/marks";
import { NameForm } from "../src/demo/parts/name-form";

const root = document.createElement("div");
document.body.append(root);

afterEach(() => render(null, root));

const find = <E extends Element>(selector: string): E => {
  const found = root.querySelector<E>(selector);
  if (found === null) throw new Error(`nothing matches ${selector} in ${root.innerHTML}`);
  return found;
};

describe("a field for a name", () => {
  const submit = async (text: string, onName: (name: string) => void): Promise<HTMLInputElement> => {
    const form = <NameForm label="Name" what="A name" submit="Add" testId="in" submitTestId="go" onName={onName} />;
    await act(() => render(form, root));
    const input = find<HTMLInputElement>('[data-testid="in"]');
    await act(() => {
      input.value = text;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
    await act(() => {
      find<HTMLFormElement>("form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
    });
    return input;
  };

  test("a good name is handed on without the spaces around it, and the field is empty again", async () => {
    const onName = vi.fn();
    const input = await submit("  Zoë Müller ", onName);
    expect(onName).toHaveBeenCalledExactlyOnceWith("Zoë Müller");
    expect(input.value).toBe("");
  });

  test("a bad one stays in the field, with a sentence that is read out", async () => {
    const onName = vi.fn();
    const input = await submit("é".repeat(129), onName);
    expect(onName).not.toHaveBeenCalled();
    expect(find('[role="alert"]').textContent).toContain("258");
    expect(input.getAttribute("aria-invalid")).toBe("true");
    expect(document.getElementById(input.getAttribute("aria-describedby") ?? "")).toBe(find('[role="alert"]'));
    expect(input.value).not.toBe("");
  });
});

describe("an avatar", () => {
  test("a name that looks like markup is text", async () => {
    await act(() => render(<Avatar user="<img src=x>" status="online" />, root));
    expect(root.querySelector("img")).toBeNull();
    expect(find(".avatar").textContent).toBe("<S");
  });

  test("the same name has the same colour everywhere", async () => {
    const hue = async (user: string): Promise<string> => {
      await act(() => render(<Avatar user={user} status="away" />, root));
      return find<HTMLElement>(".avatar").style.getPropertyValue("--hue");
    };
    expect(await hue("alice")).toBe(await hue("alice"));
    expect(await hue("alice")).not.toBe(await hue("bob"));
  });
});
