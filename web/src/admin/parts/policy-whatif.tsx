/** The slider: what another window would have led to over what was recorded. It never changes a setting. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";
import { sentenceOf } from "../api";
import { counted, figure, instant, length, spoken } from "../format";
import type { Session } from "../session";
import {
  columnsOf,
  fewer,
  shorter,
  spokenStep,
  stepOf,
  type PolicyReplay,
  type ReplayedCause,
} from "../whatif";
import { type Look, upward, usePlot } from "./plot";

export function WhatIf({ session }: { session: Session }) {
  const found = useSignal<PolicyReplay | null>(null);
  const problem = useSignal<string | null>(null);
  const busy = useSignal(false);
  const ask = async (): Promise<void> => {
    busy.value = true;
    try {
      found.value = await session.api.policyReplay();
      problem.value = null;
    } catch (error) {
      problem.value = sentenceOf(error);
    }
    busy.value = false;
  };
  useEffect(() => void ask(), []);
  const answer = found.value;
  return (
    <section class="view" aria-labelledby="whatif-title">
      <div class="view-head">
        <h2 id="whatif-title">What if?</h2>
        <div class="view-actions">
          <button type="button" disabled={busy.value} data-testid="whatif-again" onClick={() => void ask()}>
            Replay again
          </button>
        </div>
      </div>
      <p class="lead" role="status" data-testid="whatif-basis">
        {busy.value && answer === null ? "Replaying what was recorded…" : answer !== null && basisOf(answer)}
      </p>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      <ul class="cards">
        {answer?.causes.map((cause) => (
          <Card key={`${cause.cause} ${answer.at}`} cause={cause} />
        ))}
      </ul>
    </section>
  );
}

/** What the figures rest on. */
function basisOf(answer: PolicyReplay): string {
  if (answer.oldestAt === null) return "Nothing is recorded yet.";
  const rest = answer.complete
    ? ""
    : ` This is a part of what is recorded: the server knows ${counted(answer.usersKnown, "user")}.`;
  const doubt =
    answer.unfaithful === 0
      ? ""
      : ` Of ${counted(answer.unfaithful, "user")} not everything that was recorded came out again: entries are missing.`;
  return (
    `Replayed: ${counted(answer.entries, "entry", "entries")} of ${counted(answer.users, "user")}, ` +
    `the oldest of ${instant(answer.oldestAt, answer.at)}.${rest}${doubt} Moving a window here changes no setting.`
  );
}

function Card({ cause }: { cause: ReplayedCause }) {
  const inForce = stepOf(cause.tried, cause.windowMs);
  const step = useSignal(inForce);
  const at = cause.tried[step.value];
  if (at === undefined) return null;
  const { recorded } = cause;
  const id = `whatif-${cause.cause}`;
  return (
    <li class="card policy" data-testid={id}>
      <div class="card-head">
        <h3>{spoken(cause.cause)}</h3>
        <span class="chip">window {length(cause.windowMs)}</span>
      </div>
      <p class="hint">
        {counted(cause.ends, "end")}, recorded with a window of {cause.recordedMs.map((one) => length(one)).join(", ")}.
      </p>
      <label for={`${id}-slider`}>
        With a window of <b data-testid={`${id}-window`}>{length(at.windowMs)}</b>
        {step.value === inForce && " (in force)"}
      </label>
      <input
        id={`${id}-slider`}
        class="whatif-slider"
        type="range"
        min={0}
        max={cause.tried.length - 1}
        step={1}
        value={step.value}
        aria-valuetext={spokenStep(cause, step.value)}
        data-testid={`${id}-slider`}
        onInput={(event) => (step.value = Number(event.currentTarget.value))}
      />
      <table>
        <thead>
          <tr>
            <th scope="col">
              <span class="hidden">Figure</span>
            </th>
            <th scope="col">Recorded</th>
            <th scope="col">With this window</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">False offlines</th>
            <td>{figure(recorded.falseOfflines)}</td>
            <td>
              <b data-testid={`${id}-false`}>{figure(at.falseOfflines)}</b>{" "}
              <span class="hint">{fewer(at.falseOfflines, recorded.falseOfflines)}</span>
            </td>
          </tr>
          <tr>
            <th scope="row">Ghost time</th>
            <td>{length(recorded.ghostMs)}</td>
            <td>
              <b data-testid={`${id}-ghost`}>{length(at.ghostMs)}</b>{" "}
              <span class="hint">{shorter(at.ghostMs, recorded.ghostMs)}</span>
            </td>
          </tr>
        </tbody>
      </table>
      <Curve cause={cause} inForce={inForce} step={step.value} />
      <button type="button" class="quiet" disabled={step.value === inForce} onClick={() => (step.value = inForce)}>
        Back to the window in force
      </button>
    </li>
  );
}

function Curve({ cause, inForce, step }: { cause: ReplayedCause; inForce: number; step: number }) {
  const chosen = useRef(step);
  chosen.current = step;
  const { place, plot } = usePlot(
    (look) => optionsOf(look, cause, inForce, () => chosen.current),
    columnsOf(cause.tried),
  );
  // the lines stay: only the mark moves. With them uPlot would forget the scales that it has not computed yet
  useEffect(() => plot.current?.redraw(false), [step]);
  return (
    <>
      <div
        ref={place}
        class="whatif-chart"
        role="img"
        aria-label={`False offlines and ghost time by window. In force: ${spokenStep(cause, inForce)}.`}
      />
      <ul class="legend">
        <li>
          <span class="legend-line is-false" aria-hidden="true" /> false offlines (left)
        </li>
        <li>
          <span class="legend-line is-ghost" aria-hidden="true" /> ghost time (right)
        </li>
        <li>
          <span class="legend-line is-now" aria-hidden="true" /> the window in force, dashed, and the one that is tried
        </li>
      </ul>
    </>
  );
}

function optionsOf(
  { colour, axis, frame }: Look,
  { tried }: ReplayedCause,
  inForce: number,
  chosen: () => number,
): uPlot.Options {
  const mark = (u: uPlot, at: number, dash: number[]): void => {
    const x = u.valToPos(at, "x", true);
    u.ctx.save();
    u.ctx.strokeStyle = colour("--accent");
    u.ctx.lineWidth = 2;
    u.ctx.setLineDash(dash);
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
    u.ctx.restore();
  };
  return {
    ...frame,
    cursor: { show: false },
    scales: { x: { time: false }, y: { range: upward }, ghost: { range: upward } },
    axes: [
      {
        ...axis,
        size: 28,
        space: 60,
        incrs: [1, 2, 3, 4, 5, 10],
        values: (_, splits) => splits.map((at) => (tried[at] === undefined ? "" : length(tried[at].windowMs))),
      },
      { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000], values: (_, s) => s.map(figure) },
      {
        ...axis,
        scale: "ghost",
        side: 1,
        size: 60,
        grid: { show: false },
        values: (_, splits) => splits.map((seconds) => length(seconds * 1000)),
      },
    ],
    series: [
      {},
      { label: "false offlines", stroke: colour("--busy"), width: 2 },
      { label: "ghost time", scale: "ghost", stroke: colour("--away"), width: 2 },
    ],
    hooks: {
      draw: [
        (u) => {
          mark(u, inForce, [6, 4]);
          if (chosen() !== inForce) mark(u, chosen(), []);
        },
      ],
    },
  };
}
