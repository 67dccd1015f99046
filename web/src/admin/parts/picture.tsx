/** The picture: one lane for each connection, windows hatched up to their deadline, and what watchers were shown. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { tick } from "../clock";
import { instant, length, spoken } from "../format";
import { lanesIn, type GraceWindow, type Lane, type Mark, type Picture } from "../lanes";
import { instantAt, panBy, place, tickLabel, ticks, zoomAt, type Span } from "../scale";
import type { Session } from "../session";
import { sayThen, type UserStory } from "../timeline";

const AXIS = 22;
const SHOWN = 34;
const WINDOWS = 38;
const LANE = 36;
/** The width of a letter, about, in pixels. */
const LETTER = 6.5;
const TOP = AXIS + SHOWN + WINDOWS;

/** What is shown at first, in milliseconds: so much of the past, and a little of what is to come. */
const PAST = 120_000;
const AHEAD = 0.06;

export function PictureView({ session, story }: { session: Session; story: UserStory }) {
  const picture = story.picture.value;
  /** Null: it follows the present. */
  const chosen = useSignal<Span | null>(null);
  const width = useSignal(800);
  const frame = useRef<HTMLDivElement>(null);
  const drag = useRef<{ x: number; span: Span; moved: boolean } | null>(null);
  void tick.value;
  const now = session.now();
  const span = chosen.value ?? following(picture, now);
  const lanes = lanesIn(picture, span.from, span.to);
  const at = story.cursor.value;
  const middle = at !== null && at >= span.from && at <= span.to ? at : (span.from + span.to) / 2;
  const zoom = (factor: number, around: number): void => void (chosen.value = zoomAt(span, around, factor));
  const pan = (share: number): void => void (chosen.value = panBy(span, share));
  const spanNow = useRef(span);
  spanNow.current = span;

  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => (width.value = Math.max(240, element.clientWidth)));
    observer.observe(element);
    // listened to by hand: a passive listener could not keep the page from scrolling
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      const { current } = spanNow;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        chosen.value = panBy(current, (event.deltaX || event.deltaY) / width.value);
        return;
      }
      const around = instantAt(current, event.clientX - element.getBoundingClientRect().left, width.value);
      const turned = Math.max(-0.4, Math.min(0.4, event.deltaY / 300));
      chosen.value = zoomAt(current, around, Math.exp(turned));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => {
      observer.disconnect();
      element.removeEventListener("wheel", wheel);
    };
  }, []);

  useEffect(() => {
    // an entry or an arrow may lead out of sight
    const { from, to } = spanNow.current;
    if (at !== null && (at < from || at > to)) chosen.value = { from: at - (to - from) / 2, to: at + (to - from) / 2 };
  }, [at]);

  const xOf = (event: PointerEvent): number => event.clientX - (frame.current?.getBoundingClientRect().left ?? 0);
  const move = (event: PointerEvent): void => {
    const dragged = drag.current;
    if (dragged !== null) {
      const by = (dragged.x - xOf(event)) / width.value;
      dragged.moved ||= Math.abs(by * width.value) > 4;
      if (dragged.moved) chosen.value = panBy(dragged.span, by);
    } else {
      story.point(instantAt(span, xOf(event), width.value));
    }
  };
  const release = (event: PointerEvent): void => {
    if (drag.current?.moved === false) story.point(instantAt(span, xOf(event), width.value));
    drag.current = null;
  };
  const key = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = (span.to - span.from) / 100;
    const cursor = story.cursor.value ?? Math.min(now, span.to);
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const sign = event.key === "ArrowLeft" ? -1 : 1;
      if (event.shiftKey) pan(sign * 0.1);
      else story.point(cursor + sign * step);
    } else if (event.key === "+" || event.key === "=") zoom(0.5, middle);
    else if (event.key === "-") zoom(2, middle);
    else if (event.key === "Home") story.point(picture.from);
    else if (event.key === "End") story.point(now);
    else if (event.key === "0") chosen.value = null;
    else if (event.key === "Escape") story.point(null);
    else return;
    event.preventDefault();
  };

  const height = TOP + Math.max(1, lanes.length) * LANE + 8;
  return (
    <div class="card picture">
      <div class="card-head">
        <h2>Connections over time</h2>
        <div class="picture-tools" role="group" aria-label="What the picture shows">
          <button type="button" aria-label="Earlier" onClick={() => pan(-0.25)}>
            ←
          </button>
          <button type="button" aria-label="Later" onClick={() => pan(0.25)}>
            →
          </button>
          <button type="button" aria-label="Show less time" data-testid="zoom-in" onClick={() => zoom(0.5, middle)}>
            +
          </button>
          <button type="button" aria-label="Show more time" data-testid="zoom-out" onClick={() => zoom(2, middle)}>
            −
          </button>
          <button type="button" onClick={() => (chosen.value = whole(picture, now))}>
            All
          </button>
          <button type="button" aria-pressed={chosen.value === null} onClick={() => (chosen.value = null)}>
            Now
          </button>
        </div>
      </div>
      <p class="hint">
        Wheel or + and − zoom, drag or Shift with arrows pans, arrows move the cursor, 0 returns to now.
      </p>
      <div
        ref={frame}
        class="picture-frame"
        role="slider"
        tabIndex={0}
        aria-label="The instant that is explained"
        aria-valuemin={Math.round(picture.from)}
        aria-valuemax={Math.round(Math.max(now, picture.from))}
        aria-valuenow={Math.round(Math.min(Math.max(at ?? now, picture.from), now))}
        aria-valuetext={at === null ? "now" : instant(at, now)}
        data-testid="picture"
        onKeyDown={key}
        onPointerMove={move}
        onPointerLeave={(event) => {
          // a finger that is lifted leaves as well, and what it pointed at is to be read
          if (event.pointerType === "mouse" && drag.current === null) story.point(null);
        }}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          drag.current = { x: xOf(event), span, moved: false };
        }}
        onPointerUp={release}
        onPointerCancel={() => (drag.current = null)}
      >
        <svg width={width.value} height={height} aria-hidden="true">
          <Drawing picture={picture} lanes={lanes} span={span} width={width.value} height={height} now={now} at={at} />
        </svg>
      </div>
      <Cursor story={story} picture={picture} at={at} now={now} />
    </div>
  );
}

/** The last minutes; where nothing happened in them, the last time when something did. */
function following(picture: Picture, now: number): Span {
  const there = picture.lanes.some((lane) => lane.closedAt === null);
  const last = Math.max(picture.from, ...picture.marks.map((mark) => mark.at), ...picture.windows.map((w) => w.from));
  const to = there || now - last < PAST ? now : last + PAST / 4;
  const from = Math.min(to - 10_000, Math.max(picture.from - 1000, to - PAST));
  const running = picture.windows.find((window) => window.until === null);
  const ahead = Math.max(to + (to - from) * AHEAD, running === undefined ? 0 : running.deadline + 1000);
  return { from, to: ahead };
}

function whole(picture: Picture, now: number): Span {
  const to = Math.max(now, picture.to);
  const room = Math.max(1000, (to - picture.from) * 0.03);
  return { from: picture.from - room, to: to + room };
}

interface DrawingProps {
  picture: Picture;
  lanes: Lane[];
  span: Span;
  width: number;
  height: number;
  now: number;
  at: number | null;
}

function Drawing({ picture, lanes, span, width, height, now, at }: DrawingProps) {
  const x = (instant: number): number => Math.max(-20, Math.min(width + 20, place(span, instant, width)));
  return (
    <>
      <defs>
        <pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect class="hatch-ground" width="7" height="7" />
          <line class="hatch-line" x1="0" y1="0" x2="0" y2="7" />
        </pattern>
      </defs>
      {ticks(span, Math.max(2, Math.floor(width / 90))).map((tick) => (
        <g key={tick.at} class="picture-tick">
          <line x1={x(tick.at)} x2={x(tick.at)} y1={AXIS - 4} y2={height} />
          <text x={x(tick.at)} y={13} text-anchor="middle">
            {tickLabel(tick.at, tick.step)}
          </text>
        </g>
      ))}
      <Shown marks={picture.marks} x={x} now={now} from={span.from} to={span.to} />
      {picture.windows.map((window, n) =>
        window.from > span.to || window.deadline < span.from ? null : (
          <Window
            key={window.from}
            window={window}
            room={x(picture.windows[n + 1]?.from ?? Infinity) - x(window.from)}
            x={x}
            now={now}
            height={height}
          />
        ),
      )}
      {lanes.map((lane, n) => (
        <Bar key={lane.key} lane={lane} y={TOP + n * LANE} x={x} now={now} width={width} />
      ))}
      <line class="picture-now" x1={x(now)} x2={x(now)} y1={AXIS} y2={height} />
      {at !== null && <line class="picture-cursor" x1={x(at)} x2={x(at)} y1={AXIS - 6} y2={height} />}
    </>
  );
}

type Place = (instant: number) => number;

/** What watchers saw: a band in the colour of the status, and a mark with its version at each change. */
function Shown({ marks, x, now, from, to }: { marks: Mark[]; x: Place; now: number; from: number; to: number }) {
  const statuses = marks.filter((mark) => mark.status !== null);
  return (
    <g data-testid="shown">
      {statuses.map((mark, n) => {
        const until = statuses[n + 1]?.at ?? now;
        if (until < from || mark.at > to) return null;
        return (
          <rect
            key={n}
            class={`shown-band is-${mark.status}`}
            x={x(mark.at)}
            y={AXIS + 18}
            width={Math.max(0, x(until) - x(mark.at))}
            height="6"
          />
        );
      })}
      {marks
        .filter((mark) => mark.at >= from && mark.at <= to)
        .map((mark, n, drawn) => (
          <g key={n} class={`shown-mark is-${mark.status ?? "unknown"}`} data-testid={`mark-${mark.type}`}>
            {mark.kind === "transition" ? (
              <>
                <path d={`M${x(mark.at)} ${AXIS + 16}l-5 -9h10z`} />
                {mark.version !== null && hasRoom(mark, drawn, n, x) && (
                  <text x={x(mark.at) + 7} y={AXIS + 14}>
                    v{mark.version}
                  </text>
                )}
              </>
            ) : (
              <circle cx={x(mark.at)} cy={AXIS + 21} r="3.5" />
            )}
            <title>{mark.text}</title>
          </g>
        ))}
    </g>
  );
}

/** Whether a version can be written beside its mark before the next mark that has one. */
function hasRoom(mark: Mark, drawn: Mark[], n: number, x: Place): boolean {
  const next = drawn.slice(n + 1).find((later) => later.kind === "transition");
  return next === undefined || x(next.at) - x(mark.at) > 14 + String(mark.version).length * LETTER;
}

interface WindowProps {
  window: GraceWindow;
  /** Pixels up to the next one: what does not fit there is not written. */
  room: number;
  x: Place;
  now: number;
  height: number;
}

/** A window, hatched as long as it ran; a line shows how long it would have run, and stands at its deadline. */
function Window({ window, room, x, now, height }: WindowProps) {
  const until = window.until ?? Math.max(window.from, Math.min(now, window.deadline));
  const y = AXIS + SHOWN;
  const right = x(window.deadline);
  const outcome = window.outcome === "running" ? "runs" : window.outcome;
  const words = `${spoken(window.cause)} ${length(window.deadline - window.from)}, ${outcome}`;
  return (
    <g class={`window is-${window.outcome}`} data-testid="window" data-outcome={window.outcome}>
      <rect
        class="window-ran"
        x={x(window.from)}
        y={y + 14}
        width={Math.max(2, x(until) - x(window.from))}
        height={height - y - 16}
        fill="url(#hatch)"
      />
      <line class="window-left" x1={x(until)} x2={right} y1={y + 18} y2={y + 18} />
      <line class="window-deadline" x1={right} x2={right} y1={y + 12} y2={y + 26} />
      {words.length * LETTER < room && (
        <text x={Math.max(2, x(window.from))} y={y + 10}>
          {words}
        </text>
      )}
      <title>{words}</title>
    </g>
  );
}

function stateOf(lane: Lane): string {
  if (lane.closedAt !== null) return "CLOSED";
  return lane.closingAt === null ? "OPEN" : "CLOSING";
}

/** A connection: OPEN, then CLOSING, and at its end why. */
function Bar({ lane, y, x, now, width }: { lane: Lane; y: number; x: Place; now: number; width: number }) {
  const start = lane.openedAt === null ? -20 : x(lane.openedAt);
  const end = x(lane.closedAt ?? now);
  const closing = lane.closingAt === null ? end : x(lane.closingAt);
  const label = [lane.tab, lane.node, lane.client].filter((word) => word !== "").join(" · ") || lane.key;
  const cause = lane.cause === "" ? "" : `${spoken(lane.cause)}${lane.code ? ` ${lane.code}` : ""}`;
  const right = end + 6 + cause.length * LETTER > width;
  return (
    <g class="lane" data-testid="lane" data-state={stateOf(lane)}>
      <text class="lane-label" x={Math.max(4, Math.min(start, width - 160))} y={y + 12}>
        {label.slice(0, 80)}
      </text>
      <rect class="lane-open" x={start} y={y + 17} width={Math.max(2, closing - start)} height="11" rx="2" />
      {closing < end && (
        <rect class="lane-closing" x={closing} y={y + 17} width={Math.max(2, end - closing)} height="11" rx="2" />
      )}
      {lane.closedAt !== null && <line class="lane-end" x1={end} x2={end} y1={y + 14} y2={y + 31} />}
      {lane.closedAt !== null && cause !== "" && (
        <text class="lane-cause" x={right ? end - 6 : end + 5} y={y + 27} text-anchor={right ? "end" : "start"}>
          {cause}
        </text>
      )}
      <title>{lane.key}</title>
    </g>
  );
}

/** What is said of the instant under the cursor. It keeps its place while there is none. */
function Cursor({ story, picture, at, now }: { story: UserStory; picture: Picture; at: number | null; now: number }) {
  const why = story.whyThen.value;
  return (
    <div class="cursor-text" role="status" data-testid="cursor-text">
      {at === null ? (
        <p class="muted">Point at an instant, or focus the picture and use the arrows: it is explained here.</p>
      ) : (
        <>
          <p>
            <span class="mono">{instant(at, now)}</span> {at > now ? "is yet to come." : sayThen(picture, at)}
          </p>
          {why !== null && <p data-testid="cursor-why">{why.sentence}</p>}
        </>
      )}
    </div>
  );
}
