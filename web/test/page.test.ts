import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { claimTab, followPage, followTab } from "../src/presence";
import { newTabId } from "../src/presence/tab";

const pageshow = (persisted: boolean): Event => Object.assign(new Event("pageshow"), { persisted });

beforeEach(() => sessionStorage.clear());

describe("the tab's id", () => {
  let stop: (() => void)[] = [];
  const open = (id: string): string => {
    const tab = claimTab(sessionStorage, () => id);
    stop.push(followTab(sessionStorage, tab));
    return tab;
  };
  const leave = (): void => {
    window.dispatchEvent(new Event("pagehide"));
    for (const end of stop) end();
    stop = [];
  };
  afterEach(leave);

  test("a reload keeps it", () => {
    expect(open("t_first")).toBe("t_first");
    leave();
    expect(open("t_second")).toBe("t_first");
  });

  test("a duplicate of a living tab takes another", () => {
    open("t_first");
    // What a browser copies into the duplicate is what the storage holds at that moment.
    expect(claimTab(sessionStorage, () => "t_copy")).toBe("t_copy");
  });

  test("a page back from the cache has its own again, and a duplicate of it another", () => {
    open("t_first");
    window.dispatchEvent(new Event("pagehide"));
    window.dispatchEvent(pageshow(true));
    expect(sessionStorage.getItem("stillhere.tab")).toBe("t_first");
    expect(claimTab(sessionStorage, () => "t_copy")).toBe("t_copy");
  });

  test("it has 128 random bits", () => {
    expect(newTabId()).toMatch(/^t_[0-9a-f]{32}$/);
    expect(newTabId()).not.toBe(newTabId());
  });
});

describe("what the page tells the client", () => {
  const client = { hide: vi.fn(), show: vi.fn(), verify: vi.fn(), doubt: vi.fn() };
  let stop: () => void;

  beforeEach(() => {
    for (const call of Object.values(client)) call.mockClear();
    stop = followPage(client);
  });
  afterEach(() => stop());

  test("pagehide hides and pageshow shows", () => {
    window.dispatchEvent(new Event("pagehide"));
    expect(client.hide).toHaveBeenCalledOnce();
    window.dispatchEvent(pageshow(true));
    expect(client.show).toHaveBeenCalledOnce();
  });

  test("a network that is back has to prove itself, one that is gone only casts doubt", () => {
    window.dispatchEvent(new Event("offline"));
    expect(client.doubt).toHaveBeenCalledOnce();
    expect(client.verify).not.toHaveBeenCalled();
    window.dispatchEvent(new Event("online"));
    expect(client.verify).toHaveBeenCalledOnce();
  });

  test("becoming visible checks the path, becoming invisible does not", () => {
    const visibility = vi.spyOn(document, "visibilityState", "get");
    visibility.mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
    expect(client.verify).not.toHaveBeenCalled();
    visibility.mockReturnValue("visible");
    document.dispatchEvent(new Event("visibilitychange"));
    expect(client.verify).toHaveBeenCalledOnce();
  });

  test("after the end nothing is told", () => {
    stop();
    window.dispatchEvent(new Event("pagehide"));
    expect(client.hide).not.toHaveBeenCalled();
  });
});
