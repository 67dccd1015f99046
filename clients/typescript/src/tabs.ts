/**
 * The id of this tab: the same across its reloads, another in every other tab.
 *
 * `sessionStorage` survives a reload, but browsers copy it into a duplicated tab too, where the same id would make the
 * server close the first tab as superseded. So a page holds a lock on its id while it lives. A page that goes away lets
 * go of it in `pagehide`, or dies and lets go thereby; its successor finds it free. A duplicate does not get it and
 * takes a new id.
 *
 * Web Locks exist only in secure contexts. Elsewhere the page leaves a mark beside the id while it lives, and `pagehide`
 * takes it away: a reload finds the id without the mark, a duplicate has copied both. (A page that crashed leaves its
 * mark as well, and comes back as a new tab; its old connection has ended with it.)
 */

import { type Environment, keep } from "./environment";

const KEY = "stillhere.tab";
const MARK = "stillhere.live";

/** How long a page waits for the id that its storage names, in milliseconds: its predecessor may be just dying. */
export const CLAIM_MS = 250;

/** This page's claim on a tab id. */
export interface Tab {
  /** Take the tab's id, or a new one if another page lives under it. */
  claim(): Promise<string>;
  /** Let go: the page goes away, and whoever comes next in this tab is the same tab. */
  release(): void;
}

export function openTab(env: Environment): Tab {
  let id = "";
  let letGo: (() => void) | undefined;
  const release = (): void => {
    letGo?.();
    letGo = undefined;
  };

  const mark = (wanted: string): boolean => {
    if (id !== wanted && keep(env, KEY) === wanted && keep(env, MARK)) return false;
    keep(env, MARK, "1");
    letGo = () => keep(env, MARK, "");
    return true;
  };

  /** Whether it is ours now. */
  const hold = (wanted: string): Promise<boolean> | boolean => {
    const { locks } = env;
    if (!locks) return mark(wanted);
    return new Promise((resolve) => {
      const giveUp = new AbortController();
      const { signal } = giveUp;
      const timer = env.setTimeout(() => giveUp.abort(), CLAIM_MS);
      const held = (): Promise<void> => {
        env.clearTimeout(timer);
        return new Promise((done) => {
          letGo = done;
          resolve(true);
        });
      };
      // an error: not in time; or this page may not use locks
      locks.request(`${KEY}.${wanted}`, { signal }, held).catch(() => resolve(!signal.aborted && mark(wanted)));
    });
  };

  const take = async (): Promise<string> => {
    if (!letGo) {
      // what this page had comes first: after a return from the back/forward cache the storage may name another's
      let next = id || keep(env, KEY) || env.newId();
      while (!(await hold(next))) next = env.newId();
      id = next;
      keep(env, KEY, id);
    }
    return id;
  };

  let claiming: Promise<string> | undefined;
  return {
    release,
    // one at a time: the second of two would wait for a lock that the first holds
    claim: () => {
      claiming ??= take().finally(() => {
        claiming = undefined;
      });
      return claiming;
    },
  };
}
