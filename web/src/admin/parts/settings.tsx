/** The settings in force on the node that answers: what differs from the defaults, and where it came from. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { sentenceOf } from "../api";
import { counted } from "../format";
import type { Session } from "../session";
import { asJson, sectionsOf, valueText, type Setting, type Settings } from "../settings";

export function SettingsView({ session }: { session: Session }) {
  const found = useSignal<Settings | null>(null);
  const problem = useSignal<string | null>(null);
  const search = useSignal("");
  const changedOnly = useSignal(false);
  const told = useSignal("");
  useEffect(() => {
    session.api.settings().then(
      (answer) => (found.value = answer),
      (error: unknown) => (problem.value = sentenceOf(error)),
    );
  }, []);
  const all = found.value?.settings ?? [];
  const sections = sectionsOf(all, search.value, changedOnly.value);
  const shown = sections.reduce((sum, section) => sum + section.rows.length, 0);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(asJson(all));
      told.value = "Copied.";
    } catch {
      told.value = "This browser does not let the page copy; select the text under “As JSON”.";
    }
  };
  return (
    <section class="view" aria-labelledby="settings-title">
      <div class="view-head">
        <h1 id="settings-title">Settings</h1>
        <p class="count" role="status" data-testid="settings-count">
          {shown === all.length ? counted(all.length, "setting") : `${shown} of ${counted(all.length, "setting")}`}
        </p>
        <div class="view-actions">
          <span role="status" data-testid="settings-told">
            {told.value}
          </span>
          <button type="button" disabled={all.length === 0} data-testid="settings-copy" onClick={() => void copy()}>
            Copy as JSON
          </button>
        </div>
      </div>
      <p class="lead">
        What is in force on node <bdi>{found.value?.node ?? ""}</bdi>. Secrets are hidden by the server. Nothing can be
        changed here: settings are read once, at the start.
      </p>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      <div class="filters">
        <label>
          <span class="hidden">Search the settings</span>
          <input
            type="search"
            placeholder="Search the settings"
            value={search.value}
            data-testid="settings-search"
            onInput={(event) => (search.value = event.currentTarget.value)}
          />
        </label>
        <div class="segments" role="group" aria-label="Which settings">
          <button type="button" aria-pressed={!changedOnly.value} onClick={() => (changedOnly.value = false)}>
            all
          </button>
          <button type="button" aria-pressed={changedOnly.value} onClick={() => (changedOnly.value = true)}>
            changed
          </button>
        </div>
      </div>
      {found.value !== null && shown === 0 && <p class="empty">No setting is like that.</p>}
      {sections.map((section) => (
        <section key={section.name} class="card" aria-labelledby={`settings-${section.name}`}>
          <h2 id={`settings-${section.name}`}>{section.name}</h2>
          <table class="settings">
            <thead>
              <tr>
                <th scope="col">Setting</th>
                <th scope="col">Value</th>
                <th scope="col">From</th>
              </tr>
            </thead>
            <tbody>
              {section.rows.map((row) => (
                <Row key={row.key} row={row} />
              ))}
            </tbody>
          </table>
        </section>
      ))}
      {all.length > 0 && (
        <details class="card">
          <summary>As JSON</summary>
          <pre class="settings-json" tabIndex={0} aria-label="All settings as JSON">
            {asJson(all)}
          </pre>
        </details>
      )}
    </section>
  );
}

function Row({ row }: { row: Setting }) {
  return (
    <tr data-testid={`setting-${row.key}`} data-changed={row.changed}>
      <th scope="row" title={row.variable}>
        <code>{row.key}</code>
      </th>
      <td>
        <bdi class="setting-value">{valueText(row.value)}</bdi>
        {row.changed && (
          <span class="hint">
            changed; default <bdi>{valueText(row.default)}</bdi>
          </span>
        )}
      </td>
      <td>
        <bdi>{row.source ?? "not known"}</bdi>
      </td>
    </tr>
  );
}
