/** The server processes, and moving everybody away from one. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { sentenceOf } from "../api";
import { counted, figure, instant, length } from "../format";
import type { Session } from "../session";
import type { NodeInfo } from "../types";
import { Confirm, whyNot } from "./pieces";

const EVERY = 2000;

export function Nodes({ session }: { session: Session }) {
  const nodes = useSignal<NodeInfo[] | null>(null);
  const problem = useSignal<string | null>(null);
  const draining = useSignal<NodeInfo | null>(null);
  const told = useSignal<string | null>(null);
  const refused = whyNot(session);
  useEffect(() => {
    const read = async (): Promise<void> => {
      if (document.hidden) return;
      try {
        nodes.value = await session.api.nodes();
        problem.value = null;
      } catch (error) {
        problem.value = sentenceOf(error);
      }
    };
    void read();
    const timer = setInterval(() => void read(), EVERY);
    return () => clearInterval(timer);
  }, []);
  const drain = async (node: string): Promise<void> => {
    const begun = await session.api.drain(node);
    const moved = counted(begun.connections, "connection");
    told.value = `The drain of ${node} has begun: ${moved} within ${length(begun.drainMs)}.`;
  };
  return (
    <section class="view" aria-labelledby="nodes-title">
      <div class="view-head">
        <h1 id="nodes-title">Nodes</h1>
        {nodes.value !== null && <p class="count">{counted(nodes.value.length, "node")}</p>}
      </div>
      <p class="problem" role="alert">
        {problem.value}
      </p>
      <p role="status">{told.value}</p>
      {refused !== null && <p class="hint">{refused}</p>}
      <ul class="cards">
        {nodes.value?.map((node) => (
          <li key={node.incarnation} class="card node" data-testid={`node-${node.node}`}>
            <div class="card-head">
              <h2>
                <bdi>{node.node}</bdi>
              </h2>
              <span class={`chip ${node.ready ? "is-open" : "is-closing"}`}>{stateOf(node)}</span>
            </div>
            <dl class="pairs">
              <Line name="Connections" value={figure(node.connections)} />
              <Line name="Users" value={figure(node.users)} />
              <Line name="Lease" value={length(node.leaseMs)} />
              <Line name="Incarnation" value={node.incarnation} />
              <Line name="Started" value={instant(node.startedAt, session.now())} />
            </dl>
            <button
              type="button"
              class="danger"
              disabled={refused !== null || node.draining}
              title={refused ?? (node.draining ? "It drains already." : undefined)}
              data-testid={`drain-${node.node}`}
              onClick={() => (draining.value = node)}
            >
              Drain…
            </button>
          </li>
        ))}
      </ul>
      {draining.value !== null && (
        <Confirm
          title={`Drain ${draining.value.node}?`}
          action="Drain"
          onConfirm={() => drain(draining.value?.node ?? "")}
          onClose={() => (draining.value = null)}
        >
          <p>
            {counted(draining.value.connections, "connection")} will be told when to reconnect, then closed with 1012.
            It takes no connection from now on, until it is started again. Nobody is shown offline for it, if there is
            another node to go to.
          </p>
        </Confirm>
      )}
    </section>
  );
}

function stateOf(node: NodeInfo): string {
  if (node.draining) return "draining";
  if (node.isolated) return "isolated from the store";
  return node.ready ? "ready" : "not ready";
}

function Line({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <bdi>{value}</bdi>
      </dd>
    </div>
  );
}
