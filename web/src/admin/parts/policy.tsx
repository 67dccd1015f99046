/** False offlines against ghost seconds: what longer or shorter windows would cost, by cause. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { sentenceOf, type Metrics } from "../api";
import { counted, figure, length, spoken } from "../format";
import { curvesOf, onCurve, type CauseCurve } from "../policy";
import type { Session } from "../session";
import { WhatIf } from "./policy-whatif";

const EVERY = 5000;

export function PolicyView({ session }: { session: Session }) {
  const metrics = useSignal<Metrics | null>(null);
  const problem = useSignal<string | null>(null);
  useEffect(() => {
    const read = async (): Promise<void> => {
      if (document.hidden) return;
      try {
        metrics.value = await session.api.metrics();
        await session.askWindows();
        problem.value = null;
      } catch (error) {
        problem.value = sentenceOf(error);
      }
    };
    void read();
    const timer = setInterval(() => void read(), EVERY);
    return () => clearInterval(timer);
  }, []);
  const curves = metrics.value === null ? [] : curvesOf(metrics.value.closes, metrics.value.gaps);
  const stats = session.stats.value;
  return (
    <section class="view" aria-labelledby="policy-title">
      <div class="view-head">
        <h1 id="policy-title">Policy</h1>
        <p class="count">grace windows, by the cause that ended a connection</p>
      </div>
      <p class="lead">
        A short window shows people offline who come back a moment later: a <strong>false offline</strong>. A long one
        shows people who are gone for good: <strong>ghost time</strong>.
      </p>
      <WhatIf session={session} />
      <h2>Since this node started</h2>
      <p class="lead">
        Counted on this node: what each window would have cost, from the times after which its users came back.
      </p>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      {metrics.value !== null && curves.length === 0 && <p class="empty">No connection has ended yet.</p>}
      <ul class="cards">
        {curves.map((curve) => (
          <Card
            key={curve.cause}
            curve={curve}
            current={stats?.falseOffline.windowMs?.[curve.cause] ?? session.windows.value[curve.cause]}
            falseOfflines={stats?.falseOffline.byCause[curve.cause] ?? 0}
            ghostMs={stats?.falseOffline.ghostMs[curve.cause] ?? 0}
          />
        ))}
      </ul>
    </section>
  );
}

interface CardProps {
  curve: CauseCurve;
  current: number | undefined;
  falseOfflines: number;
  ghostMs: number;
}

function Card({ curve, current, falseOfflines, ghostMs }: CardProps) {
  return (
    <li class="card policy" data-testid={`policy-${curve.cause}`}>
      <div class="card-head">
        <h3>{spoken(curve.cause)}</h3>
        <span class="chip">{current === undefined ? "window not seen yet" : `window ${length(current)}`}</span>
      </div>
      <p class="hint">
        {counted(curve.closes, "close")}, {counted(curve.returns, "return")}; counted so far{" "}
        {counted(falseOfflines, "false offline")} and {length(ghostMs)} of ghost time.
      </p>
      <Curve curve={curve} current={current} />
      <details>
        <summary>The figures</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Window</th>
              <th scope="col">False offlines</th>
              <th scope="col">Ghost time</th>
            </tr>
          </thead>
          <tbody>
            {curve.points.map((point) => (
              <tr key={point.windowMs}>
                <th scope="row">{length(point.windowMs)}</th>
                <td>{figure(point.falseOfflines)}</td>
                <td>{length(point.ghostSeconds * 1000)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </li>
  );
}

const WIDTH = 320;
const HEIGHT = 130;
const FOOT = 20;

/** Windows stand side by side at equal distances: their lengths span three orders of magnitude. */
function Curve({ curve, current }: { curve: CauseCurve; current: number | undefined }) {
  const { points } = curve;
  if (points.length < 2) return <p class="empty">Nobody has come back yet, so there is no curve.</p>;
  const x = (n: number): number => 8 + (n * (WIDTH - 16)) / (points.length - 1);
  const scale = (values: number[]) => {
    const most = Math.max(...values, 1e-9);
    return (value: number): number => HEIGHT - FOOT - (value / most) * (HEIGHT - FOOT - 8);
  };
  const falseY = scale(points.map((point) => point.falseOfflines));
  const ghostY = scale(points.map((point) => point.ghostSeconds));
  const path = (y: (n: number) => number): string =>
    points.map((_, n) => `${n === 0 ? "M" : "L"}${x(n).toFixed(1)} ${y(n).toFixed(1)}`).join("");
  const at = current === undefined ? null : placeOf(points, current);
  const here = current === undefined ? null : onCurve(curve, current);
  const ghost = length((here?.ghostSeconds ?? 0) * 1000);
  const said =
    here === null ? "" : ` At the window of ${length(here.windowMs)}: ${figure(here.falseOfflines)} and ${ghost}.`;
  return (
    <>
      <svg
        class="curve"
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`False offlines fall and ghost time grows with the window.${said}`}
      >
        <line class="curve-axis" x1="0" x2={WIDTH} y1={HEIGHT - FOOT} y2={HEIGHT - FOOT} />
        {at !== null && <line class="curve-now" x1={x(at)} x2={x(at)} y1="0" y2={HEIGHT - FOOT} />}
        <path class="curve-false" d={path((n) => falseY(points[n]?.falseOfflines ?? 0))} />
        <path class="curve-ghost" d={path((n) => ghostY(points[n]?.ghostSeconds ?? 0))} />
        {points.map((point, n) =>
          n % 3 === 0 || n === points.length - 1 ? (
            <text
              key={n}
              x={x(n)}
              y={HEIGHT - 5}
              text-anchor={n === 0 ? "start" : n === points.length - 1 ? "end" : "middle"}
            >
              {length(point.windowMs)}
            </text>
          ) : null,
        )}
      </svg>
      <ul class="legend">
        <li>
          <span class="legend-line is-false" aria-hidden="true" /> false offlines, at most{" "}
          {figure(points[0]?.falseOfflines ?? 0)}
        </li>
        <li>
          <span class="legend-line is-ghost" aria-hidden="true" /> ghost time, at most{" "}
          {length((points.at(-1)?.ghostSeconds ?? 0) * 1000)}
        </li>
        {at !== null && (
          <li>
            <span class="legend-line is-now" aria-hidden="true" /> the window in force
          </li>
        )}
      </ul>
    </>
  );
}

/** Where a window stands between the points, as a fractional index; null outside of them. */
function placeOf(points: CauseCurve["points"], windowMs: number): number | null {
  const next = points.findIndex((point) => point.windowMs >= windowMs);
  const after = points[next];
  if (after === undefined) return null;
  const before = points[next - 1];
  if (before === undefined) return next;
  return next - (after.windowMs - windowMs) / (after.windowMs - before.windowMs);
}
