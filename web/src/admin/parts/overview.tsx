/** How the server is: figures of now, live charts, closes by cause, how quickly people come back. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { Metrics } from "../api";
import { counted, figure, length, spoken } from "../format";
import type { Session } from "../session";
import type { Stats, Status } from "../types";
import { Chart } from "./chart";
import { Badge, Bars, Tile } from "./pieces";

/** How often the metrics are read, in milliseconds. */
const EVERY = 5000;

const CONNECTED = [
  { name: "connections", colour: "--accent" },
  { name: "users present", colour: "--online" },
  { name: "in a window", colour: "--away" },
];
const RATES = [
  { name: "transitions", colour: "--accent" },
  { name: "connects", colour: "--online" },
  { name: "disconnects", colour: "--busy" },
];

export function Overview({ session }: { session: Session }) {
  const stats = session.stats.value;
  const metrics = useSignal<Metrics | null>(null);
  useEffect(() => {
    const read = async (): Promise<void> => {
      if (document.hidden) return;
      try {
        metrics.value = await session.api.metrics();
      } catch {
        metrics.value = null; // what the metrics would show is left out; the figures of /v1/stats stay
      }
    };
    void read();
    const timer = setInterval(() => void read(), EVERY);
    return () => clearInterval(timer);
  }, []);
  const connected = useMemo(() => session.history.columns("connections", "users", "windows"), [stats]);
  const rates = useMemo(() => session.history.columns("transitions", "connects", "disconnects"), [stats]);
  if (stats === null) return null;
  const { now, falseOffline } = stats;
  const ghost = Object.values(falseOffline.ghostMs).reduce((sum, ms) => sum + ms, 0);
  return (
    <section class="view" aria-labelledby="overview-title">
      <div class="view-head">
        <h1 id="overview-title">Overview</h1>
        <p class="count">
          node <bdi>{stats.node}</bdi>, up for {length(stats.at - stats.service.startedAt)}
        </p>
      </div>
      <dl class="tiles">
        <Tile name="Connections" value={figure(now.connections)} hint="on this node" testId="tile-connections" />
        <Tile name="Users present" value={figure(now.usersPresent)} hint={`of ${figure(now.usersKnown)} known`} />
        <Tile name="In a window" value={figure(now.windowsPending)} hint="gone, and still shown" />
        <Tile name="Rooms" value={figure(now.rooms)} />
        <Tile
          name="Transitions"
          value={`${figure(stats.perSecond.transitions)} /s`}
          hint={`over ${length(stats.perSecond.overMs)}`}
        />
        <Tile name="False offlines" value={figure(falseOffline.total)} hint="back after an OFFLINE" />
        <Tile name="Ghost time" value={length(ghost)} hint="shown, and gone for good" />
      </dl>
      <div class="charts">
        <Chart title="Connections and users" series={CONNECTED} columns={connected} />
        <Chart title="Per second" series={RATES} columns={rates} />
      </div>
      <div class="cards">
        <ByStatus session={session} />
        <Service stats={stats} />
        <div class="card">
          <h2>Closes by cause</h2>
          <Bars rows={rowsOf(metrics.value?.closes ?? {}, figure)} empty="No connection has ended yet." />
        </div>
        <div class="card">
          <h2>False offlines by cause</h2>
          <Bars rows={rowsOf(falseOffline.byCause, figure)} empty="None so far." />
        </div>
        <div class="card">
          <h2>Reconnect gaps</h2>
          <Gaps metrics={metrics.value} />
        </div>
      </div>
    </section>
  );
}

function rowsOf(values: Record<string, number>, say: (value: number) => string) {
  return Object.entries(values)
    .sort(([, a], [, b]) => b - a)
    .map(([cause, value]) => ({ name: spoken(cause), value, text: say(value) }));
}

const STATUSES: Status[] = ["online", "away", "busy", "offline"];

function ByStatus({ session }: { session: Session }) {
  const { directory } = session;
  void directory.edition.value;
  const counts = directory.book.counts();
  const partial = directory.truncated.value ? "of those that are listed" : undefined;
  return (
    <div class="card">
      <h2>Users by status</h2>
      <dl class="pairs">
        {STATUSES.map((status) => (
          <div key={status}>
            <dt>
              <Badge status={status} />
            </dt>
            <dd data-testid={`count-${status}`}>{figure(counts[status])}</dd>
          </div>
        ))}
      </dl>
      {partial !== undefined && <p class="hint">{partial}</p>}
    </div>
  );
}

function Service({ stats }: { stats: Stats }) {
  const { service } = stats;
  const store = service.storeReachable ? `${service.store}, reachable` : `${service.store}, out of reach`;
  return (
    <div class="card">
      <h2>Store and loop</h2>
      <dl class="pairs">
        <Pair name="Store" value={store} bad={!service.storeReachable} />
        <Pair name="Not durable yet" value={counted(service.storeBacklog, "change")} />
        <Pair name="Loop lag" value={length(service.loopLagMs)} bad={service.loopLagMs > 250} />
        <Pair name="Lost to stalls" value={length(service.loopStalledMs)} />
        <Pair name="Draining" value={service.draining ? "yes" : "no"} bad={service.draining} />
        <Pair name="Refused upgrades" value={figure(stats.totals.refused)} />
      </dl>
    </div>
  );
}

function Pair({ name, value, bad = false }: { name: string; value: string; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={bad ? "is-bad" : ""}>{bad ? `⚠ ${value}` : value}</dd>
    </div>
  );
}

/** By cause, within how long half and nine in ten of those who came back were there again. */
function Gaps({ metrics }: { metrics: Metrics | null }) {
  const rows = Object.entries(metrics?.gaps ?? {}).filter(([, buckets]) => (buckets.at(-1)?.count ?? 0) > 0);
  if (rows.length === 0) return <p class="empty">Nobody has come back yet.</p>;
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Cause</th>
          <th scope="col">Returns</th>
          <th scope="col">Half within</th>
          <th scope="col">90 % within</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([cause, buckets]) => (
          <tr key={cause}>
            <th scope="row">{spoken(cause)}</th>
            <td>{figure(buckets.at(-1)?.count ?? 0)}</td>
            <td>{within(buckets, 0.5)}</td>
            <td>{within(buckets, 0.9)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function within(buckets: { le: number; count: number }[], share: number): string {
  const wanted = (buckets.at(-1)?.count ?? 0) * share;
  const bucket = buckets.find((candidate) => candidate.count >= wanted);
  if (bucket !== undefined && Number.isFinite(bucket.le)) return length(bucket.le * 1000);
  const last = buckets.at(-2)?.le;
  return last === undefined ? "–" : `more than ${length(last * 1000)}`;
}
